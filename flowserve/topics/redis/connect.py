"""Connecting to Redis: where its master is, the handshake, and what is wrong if that fails."""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import count
from typing import Any, TypeVar

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from flowserve.topics.message import Kind
from flowserve.topics.position import BEGINNING, new_check
from flowserve.topics.redis.link import Link, pack
from flowserve.topics.redis.scripts import (
    PROBE,
    SCRIPTS,
    PublishCommand,
    encode_record,
    head_command,
    keys_of,
    read_command,
)
from flowserve.topics.redis.url import RedisURL
from flowserve.topics.remote.errors import LinkLost, Refused, Unreachable
from flowserve.topics.settings import Retention

T = TypeVar("T")

MOVES = frozenset(("MOVED", "ASK", "TRYAGAIN"))
"""Codes of errors of a cluster's node: the slot is on another one, or on its way there."""
_UNAVAILABLE = frozenset(
    ("LOADING", "MASTERDOWN", "READONLY", "MISCONF", "OOM", "NOREPLICAS", "BUSY", "CLUSTERDOWN", *MOVES)
)
"""Codes of errors with which Redis says that it can't work now."""
_FORBIDDEN = frozenset(("NOAUTH", "WRONGPASS", "NOPERM", "NOPROTO", "DENIED"))
"""Codes of errors that stay until somebody changes the URL or Redis."""

_CLUSTER_VERSION = 7
"""Of Redis, which has sharded channels from it on."""

_CA_HINT = "; add ssl_ca_certs=FILE to the URL for a CA of your own"


def code_of(error: hiredis.ReplyError | str) -> str:
    """Return the code of an error, also of one within a script."""
    text = str(error)
    inner = re.search(r": -?([A-Z]{2,}) ", text) if text.startswith("ERR Error running script") else None
    return inner[1] if inner else text.partition(" ")[0]


PERMISSIONS = (
    *("+evalsha", "+script|load", "+subscribe", "+unsubscribe", "+publish", "+ping", "+select", "+time"),
    *("+get", "+set", "+del", "+pexpire", "+rpush", "+lpop", "+llen", "+lrange"),
)
CLUSTER_PERMISSIONS = (
    *(each for each in PERMISSIONS if each not in ("+subscribe", "+unsubscribe", "+publish", "+select")),
    *("+ssubscribe", "+sunsubscribe", "+spublish", "+cluster|slots", "+cluster|info"),
)
"""What a user of Redis needs, beside the keys and channels of the prefix."""


def is_unavailable(error: hiredis.ReplyError) -> bool:
    """Return whether Redis can't work now."""
    return code_of(error) in _UNAVAILABLE or "max number of clients" in str(error)


def is_of_server(error: hiredis.ReplyError) -> bool:
    """Return whether every command will fail so until something changes, not this one alone."""
    return is_unavailable(error) or code_of(error) in _FORBIDDEN or _lacks_permission(error)


def _lacks_permission(error: hiredis.ReplyError) -> bool:
    return code_of(error) == "NOPERM" or "user executing the script" in str(error)


class Connector:
    """Opens connections to what a URL says."""

    def __init__(self, url: RedisURL) -> None:
        self._url = url
        self._keys = keys_of(url.prefix, PROBE, secrets.token_hex(4))
        self._numbers = count(1)

    async def connect(
        self,
        on_message: Callable[[bytes, bytes], None],
        on_writable: Callable[[], None],
        on_unsubscribed: Callable[[bytes], None] | None = None,
    ) -> Link:
        """Return a connection that is ready, within the URL's timeout. The parameters are as those of Link.

        Raises Unreachable, Refused.
        """
        return await self._opened(Link(SCRIPTS, on_message, on_writable, on_unsubscribed), self._connect)

    async def connect_reader(self, scripts: Sequence[bytes]) -> Link:
        """Return a connection for those who read alone, on which nothing is tried or changed. `scripts` are as those of
        Link. Raises as `connect()`."""
        return await self._opened(Link(scripts, lambda channel, payload: None, lambda: None), self._connect_to_master)

    async def ask(self, question: Callable[[Link], Awaitable[T]]) -> T:
        """Return the answer to a question about a cluster, which a replica answers, too. Raises as `connect()`, and
        what the question raises."""
        answers: list[T] = []

        async def connect(link: Link) -> None:
            await self._greeted(link)
            answers.append(await question(link))

        link = await self._opened(Link((), lambda channel, payload: None, lambda: None), connect)
        link.abort("")
        await link.ended()
        return answers[0]

    async def _opened(self, link: Link, connect: Callable[[Link], Coroutine[Any, Any, None]]) -> Link:
        task = asyncio.get_running_loop().create_task(connect(link))
        try:
            await asyncio.wait([task], timeout=self._url.timeout)
            if not task.done():
                where, hint = link.address or self._url.shown, self._plain_hint if self._url.ssl else ""
                raise Unreachable(f"Redis at {where} does not answer within {self._url.timeout:g} s{hint}")
            task.result()
        except BaseException as error:
            link.abort("")
            task.cancel()
            await asyncio.wait([task])
            raise self._explained(error, link) from None
        return link

    def _explained(self, error: BaseException, link: Link) -> BaseException:
        at = link.address or self._url.shown
        cause = link.error if isinstance(error, LinkLost) else error
        if isinstance(cause, ssl.SSLError):
            what = getattr(cause, "verify_message", None) or cause.reason or str(cause)
            hints = {"CERTIFICATE_VERIFY_FAILED": _CA_HINT, "WRONG_VERSION_NUMBER": self._plain_hint}
            return Refused(f"TLS with Redis at {at} failed: {what}{hints.get(cause.reason, '')}")
        if isinstance(error, hiredis.ReplyError):
            kind = Unreachable if is_unavailable(error) else Refused
            prefix = self._url.prefix.partition("{")[0]  # without the partition of a cluster
            permissions = CLUSTER_PERMISSIONS if self._url.cluster else PERMISSIONS
            needed = f"~{prefix}* resetchannels &{prefix}* {' '.join(permissions)}"
            scheme = self._scheme()
            login = f"; write {scheme}://:PASSWORD@HOST, or {scheme}://USER:PASSWORD@HOST"
            hint = login if code_of(error) == "NOAUTH" else ""
            hint = f"; the user needs {needed}" if _lacks_permission(error) else hint
            return kind(f"Redis at {at} answers: {str(error).rstrip('.')}{hint}")
        if isinstance(error, LinkLost):
            hint = f"; if it wants TLS, write {self._scheme(tls=True)}://"
            if self._url.ssl is not None:
                certified = "ssl_certfile" in self._url.ssl_options
                hint = "" if certified else "; if it wants a certificate, add ssl_certfile=FILE&ssl_keyfile=FILE"
            return Unreachable(f"Redis at {at} ended the connection ({error}){hint}")
        if isinstance(error, OSError):
            return Unreachable(f"Redis at {at} can't be reached: {error.strerror or error}")
        return error

    def _scheme(self, kind: str | None = None, tls: bool | None = None) -> str:
        """Return the scheme of this URL, or of one of another kind, or with or without TLS, for those who wrote it."""
        if kind is None:
            kind = "+cluster" if self._url.cluster else "+sentinel" if self._url.service else ""
        secure = self._url.ssl is not None if tls is None else tls
        return f"{'rediss' if secure else 'redis'}{kind}"

    @property
    def _plain_hint(self) -> str:
        return f"; if it does not want TLS, write {self._scheme(tls=False)}://"

    async def _connect(self, link: Link) -> None:
        await self._connect_to_master(link)
        await self._prove(link)

    async def _connect_to_master(self, link: Link) -> None:
        role = await self._greeted(link)
        if role not in (b"master", None):
            raise Unreachable(f"Redis at {link.address} is a replica")
        if self._url.db:
            await link.call("SELECT", self._url.db)

    async def _greeted(self, link: Link) -> Any:
        """Open a connection, and return the server's role."""
        url, loop = self._url, asyncio.get_running_loop()
        if url.path is not None:
            link.address = url.path
            await loop.create_unix_connection(lambda: link, url.path)
        else:
            host, port = await self.master() if url.service else url.addresses[0]
            link.peer = host, port
            link.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            await loop.create_connection(lambda: link, host, port, ssl=url.ssl)
        return await self._greet(link)

    async def _greet(self, link: Link) -> Any:
        url = self._url
        user = ("AUTH", url.username or "default", url.password) if url.password else ()
        try:
            hello = await link.call("HELLO", 3, *user, "SETNAME", url.client_name)
        except hiredis.ReplyError as error:
            if "unknown command" in str(error):
                raise Refused(f"Redis at {link.address} is too old: topics need Redis 6.2") from None
            raise
        mode, role = hello.get(b"mode"), hello.get(b"role")
        if mode == b"sentinel":
            said = f"{self._scheme('+sentinel')}://{link.address}/SERVICE"
            raise Refused(f"{link.address} is a Sentinel: write {said}")
        if mode == b"cluster" and not url.cluster:
            raise Refused(f"Redis at {link.address} is a cluster: write {self._scheme('+cluster')}://HOST:PORT")
        if mode != b"cluster" and url.cluster:
            raise Refused(f"Redis at {link.address} is no cluster: write {self._scheme('')}://{link.address}")
        if url.cluster and int(hello.get(b"version", b"0").partition(b".")[0]) < _CLUSTER_VERSION:
            raise Refused(f"Redis at {link.address} is too old: topics in a cluster need Redis 7.0")
        return role

    async def _prove(self, link: Link) -> None:
        """Load the scripts, and use all that will be used, so that a permission that is missing is noticed now."""
        keys, publish = self._keys, PublishCommand(self._keys, self._url.cluster)
        results: list[Any] = []
        link.subscribe([keys.channel], results.append)
        records = [encode_record(b"", Kind.BINARY, keyed, "", new_check()) for keyed in (True, False)]
        link.load_scripts(results.append)
        commands = [
            publish(next(self._numbers), Retention(1, 1024, 1.0), records, [keys.of_key("")]),
            pack(head_command(keys)),
            pack(read_command(keys, BEGINNING)),
            publish(next(self._numbers), Retention(0, 0, 0.0), records[1:], []),
        ]
        link.send(commands, [results.append] * len(commands))
        link.unsubscribe([keys.channel], results.append)
        await link.call("PING")
        for error in results:
            if isinstance(error, Exception):
                raise error

    async def master(self) -> tuple[str, int]:
        """Return the address of the master, from the first Sentinel that knows it. Raises Unreachable, Refused."""
        problems = []
        for host, port in self._url.addresses:
            try:
                found = await self._ask_sentinel(host, port)
                if found is not None:
                    return str(found[0]), int(found[1])
                problems.append(f"{host}:{port} does not know it")
            except AuthenticationError as error:
                raise Refused(f"the Sentinel at {host}:{port} answers: {error}") from None
            except (RedisError, OSError) as error:
                problems.append(str(error))
        raise Unreachable(f"no Sentinel says where {self._url.service!r} is: {'; '.join(problems)}")

    async def _ask_sentinel(self, host: str, port: int) -> Any:
        url = self._url
        client = Redis(
            host=host,
            port=port,
            username=url.sentinel_username,
            password=url.sentinel_password,
            socket_timeout=url.timeout / 2,  # so that there is time to ask another one
            socket_connect_timeout=url.timeout / 2,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            decode_responses=True,
            ssl=url.ssl is not None,
            **url.ssl_options,
        )
        try:
            command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]
        finally:
            await client.aclose()
