"""HTTP Basic authentication of clients in the opening handshake (RFC 7617)."""

from __future__ import annotations

import base64
import binascii
import hmac
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from flowserve.errors import ConfigError
from flowserve.hosting.handshake import Handshake
from flowserve.library.messages import Request, Response

Check = Callable[[str, str], Awaitable[bool] | bool]

_BASIC = re.compile(r"basic +([A-Za-z0-9+/=_~.-]+) *", re.IGNORECASE)
_NOT_IN_REALM = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def basic_auth(
    realm: str = "",
    credentials: tuple[str, str] | Iterable[tuple[str, str]] | None = None,
    check_credentials: Check | None = None,
) -> Callable[[Handshake, Request], Awaitable[Response | None]]:
    """Return a `process_request` callback that requires HTTP Basic authentication: `serve(handler, host, port,
    process_request=basic_auth("realm", ("user", "password")))`.

    `realm` is named to the client (RFC 7617 section 2). Either `credentials` is a pair (user, password) of str, or an
    iterable of such pairs, or `check_credentials(user, password)`, a function or coroutine function, returns whether a
    pair is valid. A client with valid credentials is accepted, and the handler finds the user in `ws.username`; any
    other client gets a response with status 401.

    Raises ConfigError unless exactly one of the two is given, and for a malformed pair or realm.
    """
    if (credentials is None) == (check_credentials is None):
        raise ConfigError("basic_auth: give either credentials or check_credentials")
    if _NOT_IN_REALM.search(realm):
        raise ConfigError(f"basic_auth: {realm!r} can't be a realm: a control character, or not Latin-1")
    check = check_credentials or _make_check(_pairs(credentials))
    escaped = re.sub(r'(["\\])', r"\\\1", realm)
    challenge = f'Basic realm="{escaped}", charset="UTF-8"'

    async def process_request(handshake: Handshake, request: Request) -> Response | None:
        pair = _parse_authorization(request.headers.get_all("authorization"))
        valid = pair is not None and check(*pair)
        if inspect.isawaitable(valid):
            valid = await valid
        if pair is not None and valid:
            handshake.username = pair[0]
            return None
        response = handshake.respond(401, "Wrong user or password\n" if pair else "User and password are wanted\n")
        response.headers["WWW-Authenticate"] = challenge
        return response

    return process_request


def _pairs(credentials: Any) -> dict[str, str]:
    entries = [credentials] if _is_pair(credentials) else credentials
    if not isinstance(entries, Iterable) or isinstance(entries, str):
        raise ConfigError(f"basic_auth: credentials are a pair (user, password), or several, not {credentials!r}")
    pairs = list(entries)
    if not all(map(_is_pair, pairs)):
        raise ConfigError("basic_auth: credentials are a pair (user, password), or several; both of them str")
    return dict(pairs)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(each, str) for each in value)


def _make_check(passwords: dict[str, str]) -> Check:
    def check(user: str, password: str) -> bool:
        # Compare in constant time, for unknown users too, so that the time reveals nothing.
        equal = hmac.compare_digest(passwords.get(user, "").encode(), password.encode())
        return equal and user in passwords

    return check


def _parse_authorization(values: list[str]) -> tuple[str, str] | None:
    """Return user and password from the values of the Authorization fields; None unless there is exactly one field,
    with the scheme Basic and well-formed."""
    match = _BASIC.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    try:
        user, colon, password = base64.b64decode(match[1], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None
