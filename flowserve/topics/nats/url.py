"""URLs of NATS: `nats://` and `tls://`."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from urllib.parse import unquote

from flowserve.errors import ConfigError
from flowserve.topics.remote.url import URLParser

SCHEMES = ("nats", "tls")

_FILES = ("credentials", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_PARAMETERS = ("prefix", "storage", "replicas", "client_name", "socket_timeout", "health_check_interval", *_FILES)
_CREDENTIALS = re.compile(r"BEGIN NATS USER JWT-+\s+[\w.-]+\s.*BEGIN USER NKEY SEED-+\s+([A-Z2-7]+)\s", re.DOTALL)
_PORT = 4222


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


class _Parser(URLParser):
    def __init__(self, url: str) -> None:
        super().__init__(url, SCHEMES)

    def parse(self) -> NATSURL:
        if self.parts.path.strip("/"):
            self.fail(f"{self.parts.path} is too much; another stream is ?prefix=NAME")
        self.read_query(_PARAMETERS, ("tls",))
        self.check_files(_FILES)
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
            timeout=self.seconds("socket_timeout", 3.0),
            health_check_interval=self.seconds("health_check_interval", 3.0),
        )

    def _user(self) -> tuple[str | None, str | None, str | None]:
        """Return user, password and token. Each server of the field's URLs may name them; they have to be the same."""
        found = {each.rpartition("@")[0] for each in self.parts.netloc.split(",") if "@" in each}
        if len(found) > 1:
            self.fail("it has several users; write , and @ in a name or password as %2C and %40")
        text = found.pop() if found else ""
        self.check_user(text)
        name, colon, password = text.partition(":")
        if colon:
            return unquote(name), unquote(password), None
        return None, None, unquote(name) or None

    def _addresses(self) -> tuple[tuple[str, int], ...]:
        return tuple(self.address(each.rpartition("@")[2], _PORT) for each in self.parts.netloc.split(","))

    def _credentials(self) -> str | None:
        """Return the file of credentials, which nats-py reads whenever it connects."""
        path = self.query.get("credentials")
        if path is None:
            return None
        try:
            import nkeys
        except ImportError:
            self.fail("credentials need nkeys: pip install 'flowserve[nats]'")
        try:
            with open(path, encoding="utf-8") as file:
                found = _CREDENTIALS.search(file.read())
            if found is None:
                self.fail(f"credentials: {path} has no JWT and seed of a user, as nsc writes them")
            nkeys.from_seed(found[1].encode())
        except (OSError, ValueError, nkeys.NkeysError) as error:
            self.fail(f"credentials: {path} can't be used: {error}")
        return path

    def _prefix(self) -> str:
        prefix = self.query.get("prefix", "flowserve")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", prefix):
            self.fail("the prefix is letters, digits, - and _")
        return prefix

    def _storage(self) -> str:
        storage = self.query.get("storage", "file")
        if storage not in ("file", "memory"):
            self.fail("storage is file or memory")
        return storage

    def _replicas(self) -> int:
        text = self.query.get("replicas", "1")
        if text not in ("1", "2", "3", "4", "5"):
            self.fail("replicas is a number from 1 to 5")
        return int(text)

    def _tls(self) -> ssl.SSLContext | None:
        if self.parts.scheme != "tls":
            return None
        certificate, key = self.query.get("ssl_certfile"), self.query.get("ssl_keyfile")
        try:
            context = ssl.create_default_context(cafile=self.query.get("ssl_ca_certs"))
            if certificate is not None:
                context.load_cert_chain(certificate, key)
        except OSError as error:  # ssl.SSLError is one
            self.fail(f"TLS: {error}")
        return context
