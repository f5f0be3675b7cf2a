"""HTTP Basic authentication of those who want a WebSocket (RFC 7617)."""

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
_UNQUOTABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def basic_auth(
    realm: str = "",
    credentials: tuple[str, str] | Iterable[tuple[str, str]] | None = None,
    check_credentials: Check | None = None,
) -> Callable[[Handshake, Request], Awaitable[Response | None]]:
    """Return a `process_request` that lets in those who say who they are: `serve(handler, host, port,
    process_request=basic_auth("realm", ("user", "password")))`. The others get a 401.

    `credentials` is a pair of user and password, or several; or `check_credentials(user, password)`, a function or a
    coroutine function, says whether they are right. The handler finds the user in `ws.username`.

    Raises ConfigError for arguments that make no sense.
    """
    if (credentials is None) == (check_credentials is None):
        raise ConfigError("basic_auth: give either credentials or check_credentials")
    if _UNQUOTABLE.search(realm):
        raise ConfigError(f"basic_auth: {realm!r} can't be a realm: a control character, or not Latin-1")
    check = check_credentials or _checker(_pairs(credentials))
    escaped = re.sub(r'(["\\])', r"\\\1", realm)
    challenge = f'Basic realm="{escaped}", charset="UTF-8"'

    async def process_request(handshake: Handshake, request: Request) -> Response | None:
        given = _read(request.headers.get_all("authorization"))
        right = given is not None and check(*given)
        if inspect.isawaitable(right):
            right = await right
        if given is not None and right:
            handshake.username = given[0]
            return None
        response = handshake.respond(401, "Wrong user or password\n" if given else "User and password are wanted\n")
        response.headers["WWW-Authenticate"] = challenge
        return response

    return process_request


def _pairs(credentials: Any) -> dict[str, str]:
    entries = [credentials] if _is_pair(credentials) else credentials
    if not isinstance(entries, Iterable) or isinstance(entries, str):
        raise ConfigError(f"basic_auth: credentials are a pair (user, password), or several, not {credentials!r}")
    found = list(entries)
    if not all(map(_is_pair, found)):
        raise ConfigError("basic_auth: credentials are a pair (user, password), or several; both of them str")
    return dict(found)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(each, str) for each in value)


def _checker(passwords: dict[str, str]) -> Check:
    def check(user: str, password: str) -> bool:
        # Compared in constant time, and for unknown users too: the time tells nothing.
        right = hmac.compare_digest(passwords.get(user, "").encode(), password.encode())
        return right and user in passwords

    return check


def _read(values: list[str]) -> tuple[str, str] | None:
    """User and password of an Authorization field, None without one that is understood."""
    match = _BASIC.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    try:
        user, colon, password = base64.b64decode(match[1], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None
