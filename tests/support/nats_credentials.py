"""What `nsc` makes for NATS: an operator, an account and a user, who shows a JWT and signs with a key of Ed25519."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_JETSTREAM = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def _key(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwt(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, kind: str, **claims: Any) -> str:
    said = {
        "jti": os.urandom(8).hex(),
        "iat": int(time.time()),
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": kind,
        "nats": {"type": kind, "version": 2, **claims},
    }
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    text = ".".join(_base64url(json.dumps(each).encode()) for each in (head, said))
    return f"{text}.{_base64url(issuer.sign(text.encode()))}"


class Authority:
    """An operator with one account, which may use JetStream."""

    def __init__(self) -> None:
        self._operator = _key(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = _key(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def configuration(self) -> str:
        """That of a server that trusts it."""
        system = _key(nkeys.PREFIX_BYTE_ACCOUNT)
        accounts = {
            self._account: {**_UNLIMITED, "wildcards": True, **_JETSTREAM},
            system: {**_UNLIMITED, "wildcards": True},
        }
        preload = "\n".join(
            f"{account.public_key.decode()}: {_jwt(self._operator, account, 'account', limits=limits)}"
            for account, limits in accounts.items()
        )
        return (
            f"operator: {_jwt(self._operator, self._operator, 'operator')}\nresolver: MEMORY\n"
            f"system_account: {system.public_key.decode()}\nresolver_preload: {{\n{preload}\n}}\n"
        )

    def write_credentials(self, path: Path) -> None:
        """Write the file of credentials of a new user."""
        user = _key(nkeys.PREFIX_BYTE_USER)
        limits = dict.fromkeys(("subs", "data", "payload"), -1)
        jwt = _jwt(self._account, user, "user", **limits)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
        )
