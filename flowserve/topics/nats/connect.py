"""Connecting to NATS: the handshake, the stream, and what is wrong if that fails."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import nats.errors

from flowserve.topics.nats.client import ShortClient
from flowserve.topics.nats.link import Answered, Link, Unavailable
from flowserve.topics.nats.log import NO_STREAM, Log, kept_age
from flowserve.topics.nats.url import NATSURL
from flowserve.topics.remote.errors import LinkLost, Refused, Unreachable
from flowserve.topics.settings import Settings

_NAME_TAKEN, _NO_ROOM, _NOT_ENABLED, _NOT_FOR_ACCOUNT = 10058, (10047, 10028, 10002), 10076, 10039
_SECOND = 1_000_000_000
_TLS_HINTS = {"CERTIFICATE_VERIFY_FAILED": "; add ssl_ca_certs=FILE to the URL for a CA of your own"}
_START_JETSTREAM = "start nats-server with -js, or give its configuration a block jetstream"


class Connector:
    """Opens connections to what a URL says."""

    def __init__(self, url: NATSURL, settings: Settings) -> None:
        """`settings` say what the stream can hold, if there is none."""
        self._url = url
        self._settings = settings

    async def connect(self) -> Log:
        """Return a connection that is ready, to any of the servers. Raises Unreachable, Refused."""
        return await self._connect_to_any(self._prepare)

    async def connect_reader(self) -> Log:
        """As `connect()`, for those who read alone: nothing is tried or changed, and there may be no stream."""
        return await self._connect_to_any(self._find)

    async def _connect_to_any(self, prepare: Callable[[Link], Awaitable[Log]]) -> Log:
        problems: list[Unreachable] = []
        for host, port in random.sample(self._url.addresses, len(self._url.addresses)):
            try:
                return await self._connect(host, port, prepare)
            except Unreachable as error:
                problems.append(error)
        raise Unreachable("; ".join(str(each) for each in problems))

    async def _connect(self, host: str, port: int, prepare: Callable[[Link], Awaitable[Log]]) -> Log:
        url, at = self._url, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        client = ShortClient()
        link: Link | None = None
        failed: list[Exception] = []

        async def report(error: Exception) -> None:
            if link is not None:
                link.on_error(error)
            else:
                failed.append(error)
                raise error  # else it would try for ever

        async def closed() -> None:
            if link is not None:
                link.abort("the connection was closed")

        try:
            await asyncio.wait_for(self._open(client, at, report, closed), url.timeout)
            link = Link(client, at, url.timeout)
            await link.start()
            return await prepare(link)
        except BaseException as error:
            if link is not None:
                link.abort("")
                await link.ended()
            else:
                with suppress(Exception):
                    await asyncio.wait_for(client.close(), url.timeout)
            raise self._explained(error, at, link) from None

    async def _open(self, client: ShortClient, at: str, report: Any, closed: Any) -> None:
        url = self._url
        await client.connect(
            f"{'tls' if url.ssl else 'nats'}://{at}",
            error_cb=report,
            closed_cb=closed,
            name=url.client_name,
            allow_reconnect=False,  # as what is known of topics has to be compared then
            connect_timeout=url.timeout,  # type: ignore[arg-type]  # any number does
            ping_interval=24 * 3600,  # the backplane checks the connection itself
            tls=url.ssl,
            user=url.user,
            password=self._password(client) if url.password is not None else None,
            token=self._token(client) if url.token is not None else None,
            user_credentials=url.credentials,
        )
        self._check_tls(client)

    def _password(self, client: ShortClient) -> Any:
        def password() -> str | None:
            self._check_tls(client)
            return self._url.password

        return password

    def _token(self, client: ShortClient) -> Any:
        def token() -> str | None:
            self._check_tls(client)
            return self._url.token

        return token

    def _check_tls(self, client: ShortClient) -> None:
        """See to it that nothing is told to a server without TLS where the URL wants it."""
        if self._url.ssl is not None and not client._server_info.get("tls_required"):
            raise Refused("NATS has no TLS: write nats://, or give its configuration a block tls")

    async def _find(self, link: Link) -> Log:
        await link.call("$JS.API.INFO")  # fails if there is no JetStream
        return Log(link, self._url.prefix, 0.0)

    async def _prepare(self, link: Link) -> Log:
        """Return the stream, which is made if there is none."""
        await link.call("$JS.API.INFO")  # fails if there is no JetStream
        name, age = self._url.prefix, kept_age(self._settings.retention)
        config = {
            "name": name,
            "subjects": [f"{name}.log.*"],
            "republish": {"src": f"{name}.log.*", "dest": f"{name}.live.{{{{wildcard(1)}}}}"},
            "allow_direct": True,
            "retention": "limits",
            "discard": "old",
            "max_bytes": self._settings.max_memory,
            "max_age": int(age * _SECOND),
            "duplicate_window": int(age * _SECOND),
            "storage": self._url.storage,
            "num_replicas": self._url.replicas,
        }
        found = await self._stream(link, config)
        for key in ("subjects", "republish", "allow_direct"):
            if found.get(key) != config[key]:
                raise Refused(f"NATS at {link.address} has another stream {name}: write ?prefix=NAME behind the URL")
        log = Log(link, name, found["max_age"] / _SECOND)
        await log.raise_age(age)
        await log.prove(self._settings.retention)
        return log

    async def _stream(self, link: Link, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration of the stream."""
        name = config["name"]
        for _ in range(2):
            try:
                return dict((await link.call(f"$JS.API.STREAM.INFO.{name}"))["config"])
            except Answered as error:
                if error.code != NO_STREAM:
                    raise
            try:
                made = await link.call(f"$JS.API.STREAM.CREATE.{name}", json.dumps(config).encode())
                return dict(made["config"])
            except Answered as error:
                if error.code in _NO_ROOM:
                    raise Refused(
                        f"NATS at {link.address} has no room for {config['max_bytes']} bytes of messages ({error}):"
                        " raise max_file_store or max_memory_store in its configuration, or lower --topics-max-memory"
                    ) from None
                if error.code != _NAME_TAKEN:
                    raise
        raise Unreachable(f"the stream {name} of NATS comes and goes")

    def _permissions(self) -> str:
        """Return what a user needs, as in the configuration of NATS."""
        prefix = self._url.prefix
        api = f'"$JS.API.INFO", "$JS.API.STREAM.*.{prefix}", "$JS.API.DIRECT.GET.{prefix}"'
        return f'{{ publish: [{api}, "{prefix}.log.*"], subscribe: ["{prefix}.live.*", "_INBOX.>"] }}'

    def _explained(self, error: BaseException, at: str, link: Link | None) -> BaseException:
        if isinstance(error, (Refused, Unreachable)):
            return error
        if isinstance(error, ssl.SSLError):
            what = getattr(error, "verify_message", None) or error.reason or str(error)
            return Refused(f"TLS with NATS at {at} failed: {what}{_TLS_HINTS.get(error.reason, '')}")
        if link is not None and link.denied:
            return Refused(f"NATS at {at} answers: {link.denied}; the user needs the permissions {self._permissions()}")
        if isinstance(error, Answered):
            if error.code in (_NOT_ENABLED, _NOT_FOR_ACCOUNT):
                return Refused(f"NATS at {at} has no JetStream, which topics need: {_START_JETSTREAM}")
            return Refused(f"NATS at {at}: {error}")
        if isinstance(error, Unavailable):
            if "not enabled" in str(error) or str(error) == "JetStream is not there":
                return Refused(f"NATS at {at} has no JetStream, which topics need: {_START_JETSTREAM}")
            return Unreachable(f"NATS at {at}: {error}")
        if isinstance(error, (asyncio.TimeoutError, nats.errors.TimeoutError)):
            return Unreachable(f"NATS at {at} does not answer within {self._url.timeout:g} s")
        if isinstance(error, nats.errors.Error):
            text = str(error).removeprefix("nats: ")
            if "authorization" in text.lower() or "authentication" in text.lower():
                return Refused(f"NATS at {at} answers: {text}")
            return Unreachable(f"NATS at {at} can't be used: {text}")
        if isinstance(error, LinkLost):
            return Unreachable(f"NATS at {at} ended the connection: {error}")
        if isinstance(error, OSError):
            return Unreachable(f"NATS at {at} can't be reached: {error.strerror or error}")
        return error
