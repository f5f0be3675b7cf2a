"""Grants: signed texts that say which topics their bearer may use, and until when.

Theory of operation. An application gives a grant to a client, over whatever it authenticates clients by; the client
shows it in the protocol (PROTOCOL.md), and the server checks it without asking the application. A grant is

    v1.PAYLOAD.MAC

where PAYLOAD is a JSON object in base64url (RFC 4648 section 5, without padding), and MAC the HMAC-SHA256 (RFC 2104) of
_CONTEXT and PAYLOAD, written in the same way. It is signed, not encrypted: its bearer can read it. It can't be
withdrawn before it expires, but by changing the secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from flowserve.topics.serving.access import check_actions

Secret = str | bytes

_VERSION = "v1"
_CONTEXT = b"flowserve.topics.grant.v1\n"
"""Signed too, so that what was signed with the same secret for another purpose is no grant."""
_MIN_SECRET = 16
"""Bytes of a secret."""
_MAX_LENGTH = 16384
"""Characters of a grant."""


class InvalidGrant(Exception):
    """A text is no grant, was not signed with a secret of this server, or has expired."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a grant says."""

    topics: frozenset[str]
    prefixes: tuple[str, ...]
    """Topics whose names begin so are granted, too."""
    actions: frozenset[str]
    expires: float
    """Seconds since the epoch."""

    def allows(self, topic: str, action: str) -> bool:
        """Whether it has not expired, and allows this."""
        named = topic in self.topics or topic.startswith(self.prefixes)
        return named and action in self.actions and time.time() < self.expires


def grant(
    secret: Secret,
    topics: Collection[str],
    actions: str | Collection[str] = "subscribe",
    *,
    ttl: float = 3600.0,
    prefixes: Collection[str] = (),
) -> str:
    """Return a grant for `topics.serve(websocket, secret=secret)`: who has this text may use topics for `ttl` seconds.

    `topics` are their names, and nothing in them has a meaning of its own, so that a name may come from a user.
    `prefixes` are beginnings of names: all topics whose names begin so are granted, too. `actions` is "subscribe",
    "publish" or both. `secret` has at least 16 bytes, best 32 random ones; it has to be the same on all machines.

    Raises ValueError for a short secret, for other actions, and if the grant would be too long, TypeError for one name
    instead of a collection of them.
    """
    if isinstance(topics, (str, bytes)) or isinstance(prefixes, (str, bytes)):
        raise TypeError("topics and prefixes are collections of names, not one name")
    said = {
        "topics": sorted(topics),
        "prefixes": sorted(prefixes),
        "actions": sorted(check_actions(actions)),
        "expires": time.time() + ttl,
    }
    payload = _base64url(json.dumps(said, allow_nan=False, separators=(",", ":")).encode())
    made = f"{_VERSION}.{payload}.{_mac(_key(secret), payload)}"
    if len(made) > _MAX_LENGTH:
        raise ValueError(f"a grant has {_MAX_LENGTH} characters at most, not {len(made)}; use prefixes")
    return made


def keys_of(secret: Secret | Sequence[Secret] | None) -> tuple[bytes, ...]:
    """Return the keys of the parameter `secret` of serve(). Raises ValueError for one that is short."""
    if secret is None:
        return ()
    return tuple(_key(each) for each in ((secret,) if isinstance(secret, (str, bytes)) else secret))


def read_grant(text: str, keys: Sequence[bytes]) -> Grant:
    """Return what a grant says that was signed with one of the keys. Raises InvalidGrant, whatever `text` is."""
    version, _, rest = text.partition(".")
    payload, _, mac = rest.partition(".")
    if len(text) > _MAX_LENGTH or not text.isascii() or version != _VERSION:
        raise InvalidGrant("this is no grant")
    if not any(hmac.compare_digest(mac, _mac(key, payload)) for key in keys):
        raise InvalidGrant("the grant was not signed with a secret of this server")
    try:
        found = _decode(payload)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):  # whoever signs may write it wrong
        raise InvalidGrant("the grant does not say what a grant has to say") from None
    if time.time() >= found.expires:
        raise InvalidGrant("the grant has expired")
    return found


def _decode(payload: str) -> Grant:
    """Return what a payload says. Raises if that is not what PROTOCOL.md says."""
    said: Any = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    topics, prefixes, actions = (_texts(said[name]) for name in ("topics", "prefixes", "actions"))
    expires = said["expires"]
    if type(expires) not in (int, float) or not math.isfinite(expires):
        raise ValueError("a grant expires at a time")
    return Grant(frozenset(topics), tuple(prefixes), frozenset(actions), float(expires))


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("names are in an array")
    return value


def _key(secret: Secret) -> bytes:
    key = secret.encode() if isinstance(secret, str) else bytes(secret)
    if len(key) < _MIN_SECRET:
        raise ValueError(f"a secret has {_MIN_SECRET} bytes at least; take secrets.token_hex(32)")
    return key


def _mac(key: bytes, payload: str) -> str:
    return _base64url(hmac.digest(key, _CONTEXT + payload.encode(), hashlib.sha256))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
