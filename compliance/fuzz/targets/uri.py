"""URIs of WebSockets, URLs of proxies, and places to which a server redirects; all as text.

- Only InvalidURI, InvalidProxy and (for a redirect) HandshakeError are raised; no message shows a password.
- A URI in ASCII that is shown and read again is the same, but for user and password, and secrets in its query.
- What goes into a request can stand there: target and Host field have no blanks, control or other characters.
- websockets, where it reads the same text, means the same place (see `compare`).
"""

from __future__ import annotations

import re
from typing import Any

from compliance.fuzz.findings import Broken, require
from flowserve.client.proxies import parse_proxy
from flowserve.client.redirects import redirect_location
from flowserve.client.uri import URI, parse_uri
from flowserve.errors import HandshakeError, InvalidProxy, InvalidURI
from flowserve.http.client import encode_request
from flowserve.logs.redaction import REDACTED

MAX_LEN = 400
_TARGET = re.compile(r"/[\x21-\x7e]*")
_HOST = re.compile(rb"(?:\[[0-9a-fA-F:.]+\]|[\x21-\x7e]+)(?::[0-9]+)?")
_PASSWORD = "hunter2"
_BASE = parse_uri("wss://example.com:8443/a/b?c")


def text_of(data: bytes) -> str:
    """The input as text, where bytes that are not UTF-8 become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def observe(data: bytes) -> Any:
    text = text_of(data)
    return [_uri(text), _proxy(text), _redirect(data)]


def _uri(text: str) -> Any:
    try:
        uri = parse_uri(text)
    except InvalidURI as error:
        _check_secret(text, str(error))
        return "invalid"
    _check(uri)
    return tuple(uri)


def _check(uri: URI) -> None:
    require(_TARGET.fullmatch(uri.target) is not None, "a target that can't stand in a request", uri)
    require(0 < uri.port < 65536, "a port that is none", uri.port)
    require(_HOST.fullmatch(uri.authority) is not None, "a Host field that can't stand in a request", uri.authority)
    encode_request("GET", uri.target, [(b"host", uri.authority)])
    if uri.authorization is not None:
        encode_request("GET", uri.target, [(b"authorization", uri.authorization)])
    again = parse_uri(str(uri))
    shown = "%" not in uri.host and REDACTED not in again.target  # a zone is for this machine alone
    if shown and again != uri._replace(authorization=None):
        raise Broken("a URI that is shown and read again is another one", uri, again)


def _check_secret(text: str, message: str) -> None:
    """What stands before the last @ may be a password, however malformed the rest is."""
    secret, _, rest = text.rpartition("@")
    if _PASSWORD in secret and _PASSWORD not in rest.lower():
        require(_PASSWORD not in message.lower(), "a password is shown", message)


def _proxy(text: str) -> Any:
    try:
        proxy = parse_proxy(text)
    except InvalidProxy as error:
        _check_secret(text, str(error))
        return "invalid"
    require(0 < proxy.port < 65536, "a port of a proxy that is none", proxy.port)
    str(proxy).encode("ascii")
    return tuple(proxy)


def _redirect(data: bytes) -> Any:
    location = data.replace(b"\r", b"").replace(b"\n", b"").strip(b" \t")
    try:
        new = redirect_location(_BASE, HandshakeError(302, "elsewhere", [(b"location", location)]))
    except HandshakeError as error:
        require(error.status == 302, "a redirect that is refused has lost its status")
        return "refused"
    require(new is not None, "a redirect leads nowhere")
    assert new is not None
    require(new.secure, "a redirect gives up encryption")
    _check(new)
    return tuple(new)


def compare(data: bytes, seen: Any) -> bool:
    from compliance.fuzz.targets._uris import agree

    return agree(text_of(data), seen)
