"""URLs of Redis: `redis://`, `rediss://`, `redis+unix://`, and those with `+sentinel` or `+cluster`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlunsplit

from flowserve.errors import ConfigError
from flowserve.topics.remote.url import URLParser

if TYPE_CHECKING:
    import ssl

_TLS_SCHEMES = ("rediss", "rediss+sentinel", "rediss+cluster")
SCHEMES = (
    *("redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel"),
    *("redis+cluster", "rediss+cluster"),
)

_OWN = (
    *("prefix", "db", "username", "password", "client_name", "socket_timeout", "health_check_interval"),
    *("sentinel_username", "sentinel_password"),
)
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_PORT, _SENTINEL_PORT = 6379, 26379


@dataclass(frozen=True, slots=True)
class RedisURL:
    """Where Redis is, and how to connect to it. Times are in seconds."""

    shown: str
    """The URL without passwords, for the log."""
    addresses: tuple[tuple[str, int], ...]
    """Of the server, of Sentinels that know it, or of some nodes of a cluster."""
    cluster: bool
    """Whether it is a cluster."""
    path: str | None
    """Of its UNIX socket."""
    service: str | None
    """The name by which Sentinels know it."""
    ssl: ssl.SSLContext | None
    ssl_options: Mapping[str, Any]
    """The parameters for TLS, as redis-py takes them."""
    username: str | None
    password: str | None
    sentinel_username: str | None
    sentinel_password: str | None
    db: int
    prefix: str
    """Of all keys and channels."""
    client_name: str
    """As CLIENT LIST shows it."""
    timeout: float
    """How long connecting, and an answer, may take."""
    health_check_interval: float
    """How long a connection may be quiet before it is checked."""


def parse_url(url: str) -> RedisURL:
    """Return what a URL says. Raises ConfigError that says what is wrong with it, or that redis-py is missing."""
    return _Parser(url).parse()


class _Parser(URLParser):
    def __init__(self, url: str) -> None:
        super().__init__(url, SCHEMES)
        self.sentinel = self.parts.scheme.endswith("+sentinel")
        self.cluster = self.parts.scheme.endswith("+cluster")

    def parse(self) -> RedisURL:
        parts = self.parts
        self.read_query((*_OWN, *_redis_parameters()), _TLS_SCHEMES)
        for name in self.query:
            if name.startswith("sentinel_") and not self.sentinel:
                self.fail(f"{name} is for redis+sentinel://")
        username, password = self._user()
        service, db = self._path()
        context, options = self._tls()
        prefix = self.query.get("prefix", "flowserve:")
        if not prefix.isprintable() or set(prefix) & set("{} "):
            self.fail("the prefix is text without spaces and braces")
        return RedisURL(
            shown=self.shown,
            addresses=() if parts.scheme == "redis+unix" else self._addresses(),
            cluster=self.cluster,
            path=unquote(parts.path) if parts.scheme == "redis+unix" else None,
            service=service,
            ssl=context,
            ssl_options=options,
            username=username,
            password=password,
            sentinel_username=self.query.get("sentinel_username"),
            sentinel_password=self.query.get("sentinel_password"),
            db=db,
            prefix=prefix,
            client_name=self._client_name(),
            timeout=self.seconds("socket_timeout", 3.0),
            health_check_interval=self.seconds("health_check_interval", 3.0),
        )

    def _user(self) -> tuple[str | None, str | None]:
        user, _, _ = self.parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        self.check_user(user)
        found_name = unquote(name) or self.query.get("username")
        found_password = unquote(password) or self.query.get("password")
        if found_name and not found_password:
            self.fail(f"the user {found_name!r} has no password; a password alone is written :PASSWORD@")
        return found_name or None, found_password or None

    def _addresses(self) -> tuple[tuple[str, int], ...]:
        hosts = self.parts.netloc.rpartition("@")[2]
        port = _SENTINEL_PORT if self.sentinel else _PORT
        found = hosts.split(",") if hosts else ["localhost"]
        if len(found) > 1 and not (self.sentinel or self.cluster):
            self.fail("it has several hosts; only redis+sentinel:// and redis+cluster:// take those")
        return tuple(self.address(each, port, "localhost") for each in found)

    def _path(self) -> tuple[str | None, int]:
        """Return the service and the database."""
        if self.parts.scheme == "redis+unix":
            if not self.parts.path or self.parts.netloc.rpartition("@")[2]:
                self.fail("write redis+unix:///PATH/OF/SOCKET")
            return None, self._db(self.query.get("db", "0"))
        words = [unquote(word) for word in self.parts.path.split("/") if word]
        service = None
        if self.sentinel:
            if not words:
                self.fail("the service's name is missing: redis+sentinel://HOST:PORT,HOST:PORT/SERVICE")
            service = words.pop(0)
        if len(words) > 1:
            self.fail(f"/{'/'.join(words)} is more than the number of a database")
        db = self._db(words[0] if words else self.query.get("db", "0"))
        if db and self.cluster:
            self.fail("a cluster has no other database than 0")
        return service, db

    def _db(self, text: str) -> int:
        if not (text.isascii() and text.isdigit()):
            self.fail(f"the database is a number, not {text!r}")
        return int(text)

    def _client_name(self) -> str:
        name = self.query.get("client_name", "flowserve")
        if not re.fullmatch(r"[!-~]+", name):
            self.fail("client_name is ASCII without spaces")
        return name

    def _tls(self) -> tuple[ssl.SSLContext | None, Mapping[str, Any]]:
        """Return what TLS needs: the context, and redis-py's parameters for one."""
        if not self.parts.scheme.startswith("rediss"):
            return None, {}
        self.check_files(_FILES)
        from redis.asyncio.connection import SSLConnection
        from redis.asyncio.connection import parse_url as redis_parse_url
        from redis.exceptions import RedisError

        try:
            parsed: Mapping[str, Any] = redis_parse_url(urlunsplit(("rediss", "localhost", "", self.parts.query, "")))
            options = {name: value for name, value in parsed.items() if name.startswith("ssl_")}
            _complete(options)
            return SSLConnection(**options).ssl_context.get(), options
        except (RedisError, ValueError, TypeError, OSError) as error:  # ssl.SSLError is an OSError
            self.fail(f"TLS: {error}")


def _redis_parameters() -> tuple[str, ...]:
    """Return the names of redis-py's parameters for TLS. Raises ConfigError if it is not installed."""
    try:
        import hiredis  # noqa: F401
        from redis.asyncio.connection import SSLConnection
    except ImportError:
        raise ConfigError("topics in Redis need redis-py and hiredis: pip install 'flowserve[redis]'") from None
    return tuple(name for name in inspect.signature(SSLConnection).parameters if name.startswith("ssl_"))


def _complete(options: dict[str, Any]) -> None:
    """Make of redis-py's parameters for TLS what its last version makes of them."""
    options.setdefault("ssl_check_hostname", options.get("ssl_cert_reqs") != "none")
    if "ssl_certfile" in options:
        options.setdefault("ssl_keyfile", options["ssl_certfile"])
    for name, convert in (("ssl_check_hostname", _boolean), ("ssl_min_version", int)):
        if isinstance(options.get(name), str):
            options[name] = convert(options[name])


def _boolean(text: str) -> bool:
    return text.lower() not in ("0", "f", "false", "n", "no")
