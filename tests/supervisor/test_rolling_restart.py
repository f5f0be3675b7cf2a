"""New code under load: no request, handshake or WebSocket is lost, whoever comes whenever."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
import time

import pytest
import trustme
from support.helpers import CLOSE, TEXT, Client, until, within

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process only")

LONG = 20.0
DRAIN = 1.0
RESTART = (1012).to_bytes(2, "big")


class Load:
    """Requests and handshakes, each on a connection of its own, and one after the other on connections that are kept,
    from several clients at a time; whatever goes wrong is kept in `failures`."""

    def __init__(self, program, clients: int) -> None:
        self.program = program
        self.served = 0
        self.handshakes = 0
        self.failures: list[str] = []
        self.ending = False
        steps = [self._request, self._request, self._handshake]
        self._tasks = [program.background(self._run(steps[number % 3])) for number in range(clients)]

    async def _run(self, step) -> None:
        while True:
            try:
                client = await Client.connect(self.program.address)
            except ConnectionRefusedError:
                if not self.ending:
                    self.failures.append("refused")
                return
            try:
                await step(client)
            except (OSError, AssertionError, asyncio.IncompleteReadError) as error:
                self.failures.append(repr(error))
            finally:
                await client.aclose()

    async def _request(self, client: Client) -> None:
        response = await client.get("/", "Connection: close")
        assert response.status == 200
        self.served += 1

    async def _handshake(self, client: Client) -> None:
        await client.upgrade()
        first = await client.frame()
        assert first.opcode == TEXT or (first.opcode == CLOSE and first.payload.startswith(RESTART))
        self.handshakes += 1

    async def more(self, count: int) -> None:
        """Wait for so many further requests and handshakes."""
        served, handshakes = self.served + count, self.handshakes + count
        await until(lambda: self.served >= served and self.handshakes >= handshakes, LONG)

    async def end(self) -> None:
        """Wait until all clients are refused."""
        await within(asyncio.gather(*self._tasks), LONG)


class Sockets:
    """WebSockets that wait for the server's close; `closes` are code, reason and time of each."""

    def __init__(self) -> None:
        self.closes: list[tuple[int | None, str, float]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, program, count: int) -> None:
        for _ in range(count):
            client, _ = await program.open_ws()
            self._tasks.append(program.background(self._wait(client)))

    async def _wait(self, client: Client) -> None:
        frame = await within(client.reader.readexactly(2), 3 * LONG)
        payload = await client.exactly(frame[1])
        assert frame[0] == 0x88
        self.closes.append((int.from_bytes(payload[:2], "big"), payload[2:].decode(), time.monotonic()))
        await client.send_close(1012)
        await client.closed()

    async def all_closed(self) -> None:
        await within(asyncio.gather(*self._tasks), 3 * LONG)


async def test_restart_and_stop_under_load(start):
    program = await start(
        *("--workers", "2", "--timeout-drain", f"{DRAIN}s", "--ws-shutdown-reason", "back in a moment"),
        *("--ws-ping-interval", "off"),  # a machine may be so busy that there would be pings
    )
    before = await program.workers(2)
    sockets, load = Sockets(), Load(program, 6)
    await sockets.open(program, 300)
    await load.more(50)

    application = program.folder / "application.py"
    application.write_text(application.read_text().replace('"old"', '"new"'))
    program.signal(signal.SIGHUP)
    await program.logged("All workers are new")
    await program.workers(2, without=before)
    await sockets.all_closed()
    await load.more(50)
    assert load.failures == []
    assert len(sockets.closes) == 300
    assert {(code, reason) for code, reason, _ in sockets.closes} == {(1012, "back in a moment")}
    assert spread(sockets) > 0.4 * DRAIN
    assert (await program.identity())[1] == "new"

    sockets = Sockets()
    await sockets.open(program, 300)
    load.ending = True
    begin = time.monotonic()
    program.signal(signal.SIGTERM)
    await load.end()
    await sockets.all_closed()
    assert await program.wait() == 0
    assert time.monotonic() - begin < DRAIN + 30 + 5  # the time to drain, the graceful time, and a little
    assert load.failures == []
    assert len(sockets.closes) == 300
    assert {code for code, _, _ in sockets.closes} == {1012}
    assert spread(sockets) > 0.4 * DRAIN
    assert "killed" not in program.log


def spread(sockets: Sockets) -> float:
    """Seconds between the first close and the last. All at once would be a few milliseconds for 300."""
    times = [moment for _, _, moment in sockets.closes]
    return max(times) - min(times)


async def test_kept_connections(start):
    """A request on a connection that is kept alive is answered, and the server says with which it ends. Handshakes are
    not refused either, though WebSockets are closed at once."""
    program = await start("--workers", "2")
    load = Load(program, 3)
    failures: list[str] = []
    served = 0
    running = True

    async def ask() -> None:
        nonlocal served
        while running:
            client = await Client.connect(program.address)
            try:
                while running and (await client.get()).header("connection") != "close":
                    served += 1
            except (OSError, AssertionError, asyncio.IncompleteReadError) as error:
                failures.append(repr(error))
            finally:
                await client.aclose()

    tasks = [program.background(ask()) for _ in range(4)]
    for restarts in (1, 2):
        goal = served + 50
        await until(lambda goal=goal: served >= goal, LONG)
        program.signal(signal.SIGHUP)
        await program.logged("All workers are new", restarts)
    goal = served + 100
    await until(lambda: served >= goal, LONG)
    running = False
    await within(asyncio.gather(*tasks), LONG)
    assert load.failures == []
    assert failures == []
    await program.stop()


async def test_new_code_that_fails(start):
    """The old workers go on, and the reason is logged; when it is mended, the next restart takes it."""
    program = await start("--workers", "2")
    before = await program.workers(2)
    client, _ = await program.open_ws()
    application = program.folder / "application.py"
    good = application.read_text()
    application.write_text("raise ZeroDivisionError('on import')\n")
    program.signal(signal.SIGHUP)
    found = await program.logged("The new worker can't start")
    assert "'application:app' could not be loaded: its code raised ZeroDivisionError" in found.string
    await program.logged("not replaced yet go on")
    assert sum(line.startswith("Traceback") for line in program.lines) == 1
    assert await program.workers(2) == before
    await client.send_text("still here")
    assert await client.message() == "still here"
    await client.aclose()
    application.write_text(good.replace('"old"', '"mended"'))
    program.signal(signal.SIGHUP)
    await program.logged("All workers are new")
    await program.workers(2, without=before)
    assert (await program.identity())[1] == "mended"
    program.signal(signal.SIGTERM)
    assert await program.wait() == 0


async def test_new_certificates(start, tmp_path):
    """They come with the new workers; who is connected keeps the old."""
    authority = trustme.CA()
    certificates = [authority.issue_cert("127.0.0.1", common_name=name) for name in ("old", "new")]
    certificates[0].private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    options = ("--ssl-certfile", "server.pem", "--timeout-drain", "600s")
    program = await start("--workers", "2", *options, serving=False)
    found = await program.logged(r"2 workers serve on https://([0-9.]+):(\d+)")
    address = found[1], int(found[2])
    client = await Client.connect(address, ssl=trust, server_hostname="127.0.0.1")
    await client.upgrade()
    await client.message()
    assert certificate_of(client) == "old"
    certificates[1].private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    program.signal(signal.SIGHUP)
    await program.logged("All workers are new")
    seen: list[str] = []
    while seen[-8:] != ["new"] * 8:  # the last old one may take a connection before it hears that it is to drain
        other = await Client.connect(address, ssl=trust, server_hostname="127.0.0.1")
        seen.append(certificate_of(other))
        await other.aclose()
        assert len(seen) < 100
    await client.send_text("still here")
    assert await client.message() == "still here"
    await client.aclose()
    await program.stop()


def certificate_of(client: Client) -> str:
    subject = client.writer.get_extra_info("peercert")["subject"]
    return dict(pair for part in subject for pair in part)["commonName"]


async def test_a_restart_is_ended_by_a_stop(start):
    """The worker that is being started is ended too."""
    program = await start("--workers", "2", files={})
    application = program.folder / "application.py"
    application.write_text("import time\nopen('begun', 'w').close()\ntime.sleep(60)\n")
    program.signal(signal.SIGHUP)
    await until((program.folder / "begun").exists, LONG)
    await program.stop()
