"""Redirects in response to an opening handshake (RFC 9110 section 15.4, RFC 6455 section 4.1)."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urljoin

from flowserve.client.dial import Route
from flowserve.client.handshake import HandshakeRequest
from flowserve.client.uri import URI, parse_uri
from flowserve.errors import HandshakeError, InvalidURI, ProxyError
from flowserve.logs.redaction import redact_uri

_REDIRECTS = (301, 302, 303, 307, 308)
_SAME_ORIGIN_FIELDS = (b"authorization", b"cookie", b"proxy-authorization", b"host")
"""Header fields that are not sent to another origin."""
_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss"}


def redirect_location(uri: URI, error: HandshakeError) -> URI | None:
    """Return the URI to which the response in `error` redirects a request for `uri`, None if it is no redirect.

    Raises HandshakeError if the Location is not a WebSocket or HTTP URI, or leads from wss:// to ws://.
    """
    location = next((value for name, value in error.headers if name == b"location"), None)
    if error.status not in _REDIRECTS or location is None or isinstance(error, ProxyError):
        return None  # a redirect by a proxy is not one by the server
    text = location.decode("utf-8", "replace").partition("#")[0]
    try:
        joined = urljoin(f"http{'s' * uri.secure}://{uri.authority.decode()}{uri.target}", text)
        scheme, _, rest = joined.partition(":")
        new = parse_uri(f"{_WEBSOCKET_SCHEMES.get(scheme.lower(), scheme)}:{rest}")
    except InvalidURI as invalid:
        raise _refusal(error, f"was redirected, but {invalid}") from None
    except ValueError as invalid:
        raise _refusal(error, f"was redirected, but {redact_uri(text)!r} is no URI: {invalid}") from None
    if uri.secure and not new.secure:
        raise _refusal(error, f"was redirected to {new}, which is not encrypted as {uri} is")
    if new.origin == uri.origin and new.authorization is None:
        new = new._replace(authorization=uri.authorization)
    return new


def follow(
    uri: URI, new: URI, route: Route, request: HandshakeRequest, error: HandshakeError
) -> tuple[Route, HandshakeRequest]:
    """Return the route and request for `new`, to which `uri` was redirected. For another origin they leave out the
    credentials and names that were meant for the first one.

    Raises HandshakeError if the route's `sock`, `uds`, `host` or `port` ties it to the first server.
    """
    if route.sock is not None:
        raise _refusal(error, f"was redirected to {new}, but the socket that was given leads to one server only, once")
    if new.origin == uri.origin:
        return route, request
    for name in ("uds", "host", "port"):
        if getattr(route, name) is not None:
            raise _refusal(error, f"was redirected to {new}, but `{name}` leads to {uri.host_and_port}")
    headers = [(name, value) for name, value in request.headers if name.lower() not in _SAME_ORIGIN_FIELDS]
    return replace(route, server_hostname=None), replace(request, headers=headers)


def too_many_redirects(error: HandshakeError, maximum: int) -> HandshakeError:
    """Return the error for more than `maximum` redirects."""
    return _refusal(error, f"was redirected more than {maximum} times")


def _refusal(error: HandshakeError, detail: str) -> HandshakeError:
    return HandshakeError(error.status, detail, error.headers, error.body)
