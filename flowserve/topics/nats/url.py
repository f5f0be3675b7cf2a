"""URLs of NATS: `nats://` and `tls://`."""

from __future__ import annotations

import math
import os
import re
import ssl
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from flowserve.errors import ConfigError

SCHEMES = ("nats", "tls")

_FILES = ("credentials", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_PARAMETERS = ("prefix", "storage", "replicas", "client_name", "socket_timeout", "health_check_interval", *_FILES)
_CREDENTIALS = re.compile(r"BEGIN NATS USER JWT-+\s+[\w.-]+\s.*BEGIN USER NKEY SEED-+\s+([A-Z2-7]+)\s", re.DOTALL)
_PORT = 4222
_LEAST_TIME, _LONGEST_TIME = 0.05, 3600.0


@dataclass(frozen=True, slots=True)
class NATSURL:
    """Where NATS is, and how to connect to it. Times are in seconds."""

    shown: str
    """The URL without passwords, for the log."""
    addresses: tuple[tuple[str, int], ...]
    """Of servers, one of which has to be there."""
    ssl: ssl.SSLContext | None
    user: str | None
    password: str | None
    token: str | None
    credentials: str | None
    """The file of a user's JWT and seed."""
    prefix: str
    """The name of the stream; begins all subjects."""
    storage: str
    """Where JetStream has the stream: `file` or `memory`."""
    replicas: int
    """In how many servers of a cluster it is."""
    client_name: str
    """As NATS shows the connection."""
    timeout: float
    """How long connecting, and an answer, may take."""
    health_check_interval: float
    """How long a connection may be quiet before it is checked."""


def parse_url(url: str) -> NATSURL:
    """Return what a URL says. Raises ConfigError that says what is wrong with it, or that nats-py is missing."""
    try:
        import nats.aio.client  # noqa: F401
    except ImportError:
        raise ConfigError("topics in NATS need nats-py: pip install 'flowserve[nats]'") from None
    return _Parser(url).parse()


class _Parser:
    def __init__(self, url: str) -> None:
        self.url = url
        self.shown = re.sub(r"//.*@", "//***@", url)
        try:
            self.parts = urlsplit(url)
        except ValueError as error:
            self._fail(str(error))
        self.query: dict[str, str] = {}

    def _fail(self, what: str) -> NoReturn:
        raise ConfigError(f"the URL {self.shown!r} is wrong: {what}")

    def parse(self) -> NATSURL:
        parts = self.parts
        if parts.scheme not in SCHEMES or "://" not in self.url:
            self._fail(f"it begins with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
        if parts.fragment:
            self._fail("write # as %23")
        if parts.path.strip("/"):
            self._fail(f"{parts.path} is too much; another stream is ?prefix=NAME")
        self.query = self._query()
        user, password, token = self._user()
        return NATSURL(
            shown=self.shown,
            addresses=self._addresses(),
            ssl=self._tls(),
            user=user,
            password=password,
            token=token,
            credentials=self._credentials(),
            prefix=self._prefix(),
            storage=self._storage(),
            replicas=self._replicas(),
            client_name=self.query.get("client_name", "flowserve"),
            timeout=self._time("socket_timeout", 3.0),
            health_check_interval=self._time("health_check_interval", 3.0),
        )

    def _query(self) -> dict[str, str]:
        query = dict(parse_qsl(self.parts.query, keep_blank_values=True))
        for name, value in query.items():
            if name not in _PARAMETERS:
                self._fail(f"there is no parameter {name!r}; there are {', '.join(_PARAMETERS)}")
            if name.startswith("ssl_") and self.parts.scheme != "tls":
                self._fail(f"{name} is for TLS: tls://")
            if not value:
                self._fail(f"{name} has no value")
            if name in _FILES and not os.path.exists(value):
                self._fail(f"{name}: there is no {value}")
        return query

    def _user(self) -> tuple[str | None, str | None, str | None]:
        """Return user, password and token. Each server of the field's URLs may name them; they have to be the same."""
        found = {each.rpartition("@")[0] for each in self.parts.netloc.split(",") if "@" in each}
        if len(found) > 1:
            self._fail("it has several users; write , and @ in a name or password as %2C and %40")
        text = found.pop() if found else ""
        if "@" in text or "/" in text:
            self._fail("write @ in a name or password as %40")
        name, colon, password = text.partition(":")
        if colon:
            return unquote(name), unquote(password), None
        return None, None, unquote(name) or None

    def _addresses(self) -> tuple[tuple[str, int], ...]:
        return tuple(self._address(each.rpartition("@")[2]) for each in self.parts.netloc.split(","))

    def _address(self, text: str) -> tuple[str, int]:
        try:
            parts = urlsplit(f"//{text}")
            found = _PORT if parts.port is None else parts.port
        except ValueError:
            found = 0
        if not found or not parts.hostname:
            self._fail(f"{text!r} is not HOST:PORT")
        return unquote(parts.hostname), found

    def _credentials(self) -> str | None:
        """Return the file of credentials, which nats-py reads whenever it connects."""
        path = self.query.get("credentials")
        if path is None:
            return None
        try:
            import nkeys
        except ImportError:
            self._fail("credentials need nkeys: pip install 'flowserve[nats]'")
        try:
            with open(path, encoding="utf-8") as file:
                found = _CREDENTIALS.search(file.read())
            if found is None:
                self._fail(f"credentials: {path} has no JWT and seed of a user, as nsc writes them")
            nkeys.from_seed(found[1].encode())
        except (OSError, ValueError, nkeys.NkeysError) as error:
            self._fail(f"credentials: {path} can't be used: {error}")
        return path

    def _prefix(self) -> str:
        prefix = self.query.get("prefix", "flowserve")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", prefix):
            self._fail("the prefix is letters, digits, - and _")
        return prefix

    def _storage(self) -> str:
        storage = self.query.get("storage", "file")
        if storage not in ("file", "memory"):
            self._fail("storage is file or memory")
        return storage

    def _replicas(self) -> int:
        text = self.query.get("replicas", "1")
        if text not in ("1", "2", "3", "4", "5"):
            self._fail("replicas is a number from 1 to 5")
        return int(text)

    def _time(self, name: str, default: float) -> float:
        try:
            value = float(self.query.get(name, default))
        except ValueError:
            value = math.nan
        if not _LEAST_TIME <= value <= _LONGEST_TIME:
            self._fail(f"{name} is a number of seconds from {_LEAST_TIME} to {_LONGEST_TIME:.0f}")
        return value

    def _tls(self) -> ssl.SSLContext | None:
        if self.parts.scheme != "tls":
            return None
        certificate, key = self.query.get("ssl_certfile"), self.query.get("ssl_keyfile")
        try:
            context = ssl.create_default_context(cafile=self.query.get("ssl_ca_certs"))
            if certificate is not None:
                context.load_cert_chain(certificate, key)
        except OSError as error:  # ssl.SSLError is one
            self._fail(f"TLS: {error}")
        return context
