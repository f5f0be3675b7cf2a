"""Following a server that answers with another place (RFC 9110 section 15.4, RFC 6455 section 4.1)."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urljoin

from flowserve.client.dial import Route
from flowserve.client.handshake import HandshakeRequest
from flowserve.client.uri import URI, parse_uri
from flowserve.errors import HandshakeError, InvalidURI, ProxyError
from flowserve.logs.redaction import shown_uri

_REDIRECTS = (301, 302, 303, 307, 308)
_FOR_ONE_ORIGIN = (b"authorization", b"cookie", b"proxy-authorization", b"host")
_WEB = {"http": "ws", "https": "wss"}


def target_of(uri: URI, error: HandshakeError) -> URI | None:
    """Return where the answer in `error` sends whoever asked for `uri`, None if it sends them nowhere.

    Raises HandshakeError for a place where there can be no WebSocket, and for one that gives up encryption.
    """
    location = next((value for name, value in error.headers if name == b"location"), None)
    if error.status not in _REDIRECTS or location is None or isinstance(error, ProxyError):
        return None  # a proxy has no say in where the server is
    text = location.decode("utf-8", "replace").partition("#")[0]
    try:
        joined = urljoin(f"http{'s' * uri.secure}://{uri.authority.decode()}{uri.target}", text)
        scheme, _, rest = joined.partition(":")
        new = parse_uri(f"{_WEB.get(scheme.lower(), scheme)}:{rest}")
    except InvalidURI as invalid:
        raise _refusal(error, f"was redirected, but {invalid}") from None
    except ValueError as invalid:
        raise _refusal(error, f"was redirected, but {shown_uri(text)!r} is no URI: {invalid}") from None
    if uri.secure and not new.secure:
        raise _refusal(error, f"was redirected to {new}, which is not encrypted as {uri} is")
    if new.origin == uri.origin and new.authorization is None:
        new = new._replace(authorization=uri.authorization)
    return new


def follow(
    uri: URI, new: URI, route: Route, wish: HandshakeRequest, error: HandshakeError
) -> tuple[Route, HandshakeRequest]:
    """Return how to reach `new` and what to ask for there, coming from `uri`: another origin is not given what was
    meant for the first one.

    Raises HandshakeError if the route leads to one server only.
    """
    if route.sock is not None:
        raise _refusal(error, f"was redirected to {new}, but the socket that was given leads to one server only, once")
    if new.origin == uri.origin:
        return route, wish
    for name in ("uds", "host", "port"):
        if getattr(route, name) is not None:
            raise _refusal(error, f"was redirected to {new}, but `{name}` leads to {uri.place}")
    headers = [(name, value) for name, value in wish.headers if name.lower() not in _FOR_ONE_ORIGIN]
    return replace(route, server_hostname=None), replace(wish, headers=headers)


def too_many(error: HandshakeError, most: int) -> HandshakeError:
    """The error for one redirect more than `most`."""
    return _refusal(error, f"was redirected more than {most} times")


def _refusal(error: HandshakeError, detail: str) -> HandshakeError:
    return HandshakeError(error.status, detail, error.headers, error.body)
