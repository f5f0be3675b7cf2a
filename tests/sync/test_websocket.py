"""WebSockets for threads, with servers of the websockets library at the other end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.helpers import PATIENCE, within
from support.scripted import Peer, Scripted
from support.threads import Interrupted, echo, interrupted_by, served
from websockets.exceptions import ConnectionClosed

import flowserve
from flowserve.sync import WebSocket, connect


def test_messages_and_the_end():
    with served(echo) as uri, connect(uri) as ws:
        for message in ("hello", b"\x00\xff", "", "x" * 1_000_000):
            ws.send(message)
            assert ws.receive(timeout=PATIENCE) == message
        ws.send(bytearray(b"text"), text=True)
        assert ws.recv(decode=False) == b"text"
        ws.send(b"\xff")
        with pytest.raises(UnicodeDecodeError):
            ws.receive(decode=True)
        ws.pong(b"x")
        assert 0 < ws.ping(timeout=PATIENCE) == ws.latency
    assert (ws.closed, ws.state, ws.close_code, ws.close_reason) == (True, flowserve.State.CLOSED, 1000, "")
    for call in (ws.receive, ws.ping, lambda: ws.send("x"), ws.pong):
        with pytest.raises(flowserve.ConnectionClosedOK) as caught:
            call()
        assert isinstance(caught.value, flowserve.AlreadyClosed)
    ws.close()
    ws.wait_closed(PATIENCE)


@pytest.mark.parametrize("code", [1000, 4001])
def test_the_loop_ends_with_the_server(code):
    def three(ws):
        for number in range(3):
            ws.send(str(number))
        ws.close(code)

    with served(three) as uri, connect(uri) as ws:
        got = []
        if code == 1000:
            got += ws
        else:
            with pytest.raises(flowserve.ConnectionClosedError, match="received 4001"):
                got.extend(ws)
        assert got == ["0", "1", "2"]


def test_what_is_known_of_it():
    with served(echo, subprotocols=["chat"]) as uri, connect(uri, subprotocols=["chat"], origin="http://o") as ws:
        assert ws.subprotocol == "chat"
        assert ws.request.headers["Origin"] == "http://o"
        assert ws.response.status_code == 101
        assert f"ws://127.0.0.1:{ws.remote_address[1]}" == uri
        assert ws.local_address[0] == "127.0.0.1"
        assert (ws.closed, ws.close_code, ws.close_reason) == (False, None, None)
        assert "client" in repr(ws)
        assert ws.id == ws.id
        assert ws.logger.name == "flowserve"


def test_it_has_what_the_asynchronous_one_has():
    """But what would interfere with the event loop, or is for two tasks."""
    left_out = {"session", "split", "transport"}
    assert {name for name in dir(flowserve.WebSocket) if not name.startswith("_")} - left_out == {
        name for name in dir(WebSocket) if not name.startswith("_")
    }


@pytest.mark.parametrize("error", [ValueError, Interrupted])
def test_a_block_that_raises(error):
    codes = []

    def wait(ws):
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv()
        codes.append(caught.value.rcvd.code)

    with served(wait) as uri, pytest.raises(error), connect(uri):
        raise error
    assert codes == [1011]


# Time limits


def test_a_timeout_loses_nothing():
    """Messages come just when the time is over, or before, or after; all of them arrive, in order."""
    with served(echo) as uri, connect(uri) as ws:
        timeouts, got = 0, []
        for number in range(300):
            ws.send(str(number))
            while len(got) <= number:
                try:
                    got.append(ws.receive(timeout=number % 30 / 100_000))
                except TimeoutError:
                    timeouts += 1
        assert got == [str(number) for number in range(300)]
        assert timeouts


def test_what_a_timeout_says():
    def silent(ws):
        stop.wait(PATIENCE)

    stop = threading.Event()
    with served(silent) as uri, connect(uri, close_timeout=0, ping_interval=None) as ws:
        with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s while waiting for a message"):
            ws.receive(timeout=0.01)
        with pytest.raises(TimeoutError, match="while waiting for the end"):
            ws.wait_closed(timeout=0)
        with pytest.raises(TypeError, match=r"fragments .* no timeout"):
            ws.send(["x"], timeout=1)
        assert not ws.closed
        stop.set()


async def test_a_send_that_must_wait():
    async def deaf(peer: Peer) -> None:
        await peer.open()
        await within(stop.wait())

    def send_until_it_waits(ws: WebSocket) -> None:
        while True:
            ws.send(bytes(1_000_000), timeout=0.05)

    def send(uri: str) -> None:
        with connect(uri) as ws:
            with pytest.raises(TimeoutError, match="while sending a message"):
                send_until_it_waits(ws)
            ws.abort()
            assert ws.close_code == 1006

    stop = asyncio.Event()
    async with Scripted(deaf) as server:
        await within(asyncio.to_thread(send, server.url()))
        stop.set()


# Threads


def test_one_sends_and_one_receives():
    numbers = [str(number) for number in range(2000)]
    with served(echo) as uri, connect(uri) as ws, ThreadPoolExecutor(1) as threads:
        sending = threads.submit(lambda: [ws.send(each) for each in numbers])
        assert [ws.receive(PATIENCE) for _ in numbers] == numbers
        sending.result()


def test_several_receive_and_several_send():
    with served(echo) as uri, connect(uri) as ws, ThreadPoolExecutor(8) as threads:
        receiving = [threads.submit(lambda: [ws.receive(PATIENCE) for _ in range(50)]) for _ in range(4)]
        sending = [threads.submit(lambda n=n: [ws.send(f"{n} {i}") for i in range(50)]) for n in range(4)]
        got = [message for each in receiving for message in each.result()]
        assert sorted(got) == sorted(f"{n} {i}" for n in range(4) for i in range(50))
        assert not [each.result() for each in sending if each.exception()]


def test_an_end_in_one_thread_is_seen_in_the_others():
    with served(echo) as uri, connect(uri) as ws, connect(uri) as other, ThreadPoolExecutor(1) as threads:
        receiving = threads.submit(ws.receive)
        with pytest.raises(TypeError):
            ws.send(1)  # concerns nobody else
        ws.ping()
        assert not receiving.done()
        ws.close(4000)
        with pytest.raises(flowserve.ConnectionClosedError):
            receiving.result(PATIENCE)
        other.send("x")
        assert other.receive(PATIENCE) == "x"


# Signals


def test_interrupted_while_it_waits_for_a_message():
    with served(echo) as uri, connect(uri) as ws:
        waiting = threading.Event()
        threading.Timer(0.05, waiting.set).start()
        with pytest.raises(Interrupted), interrupted_by(waiting):
            ws.receive()
        ws.send("x")
        assert ws.receive(PATIENCE) == "x"
        assert not ws._kept


def test_interrupted_when_the_message_has_just_been_taken(monkeypatch):
    """The message is not lost: the next call returns it."""
    taken = threading.Event()

    async def receive() -> str:
        message = await received()
        taken.set()
        while True:  # the interruption comes now
            try:
                await forever()
            except BaseException:
                return message

    async def forever() -> None:
        await asyncio.Event().wait()

    with served(echo) as uri, connect(uri) as ws:
        received = ws._ws.receive
        ws.send("x")
        ws.send("y")
        monkeypatch.setattr(ws, "_ws", type("Slow", (), {"receive": staticmethod(receive)}))
        with pytest.raises(Interrupted), interrupted_by(taken):
            ws.receive()
        monkeypatch.undo()
        assert [ws.receive(PATIENCE), ws.receive(PATIENCE)] == ["x", "y"]


# Fragments


def test_fragments_both_ways():
    with served(echo) as uri, connect(uri) as ws:
        here = []

        def pieces():
            for number in range(100):
                here.append(threading.current_thread())
                yield f"{number:05}" * 1000

        ws.send(pieces())
        assert set(here) == {threading.current_thread()}
        assert "".join(ws.receive_fragments()) == "".join(f"{number:05}" * 1000 for number in range(100))
        ws.send(iter(()))  # nothing
        ws.send([b"a", memoryview(b"b")])
        assert b"".join(ws.recv_streaming()) == b"ab"
        for wrong in ({"a": 1}, 1, ["a", None]):
            with pytest.raises(TypeError):
                ws.send(wrong)
            if isinstance(wrong, list):
                assert ws.closed  # a message was begun


def test_a_message_that_is_left_early():
    go_on = threading.Event()

    with served(slowly(go_on)) as uri, connect(uri) as ws:
        pieces = ws.receive_fragments()
        assert next(pieces) == "a"
        pieces.close()
        go_on.set()
        assert ws.receive(PATIENCE) == "b"
        assert ws.receive(PATIENCE) == "next"


def slowly(go_on):
    """A server that sends a message in two parts, and another message."""

    def pieces():
        yield "a"
        go_on.wait(PATIENCE)
        yield "b"

    def handler(ws):
        ws.send(pieces())
        ws.send("next")
        ws.recv()

    return handler


def test_a_message_in_pieces_is_not_for_other_threads():
    go_on = threading.Event()
    with served(slowly(go_on)) as uri, connect(uri) as ws, ThreadPoolExecutor(1) as threads:
        pieces = ws.receive_fragments()
        assert next(pieces) == "a"
        other = threads.submit(ws.receive, PATIENCE)
        go_on.set()
        assert list(pieces) == ["b"]
        assert other.result() == "next"


def test_fragments_that_raise():
    def broken():
        yield "x"
        raise LookupError("no more")

    with served(echo) as uri, connect(uri) as ws:
        with pytest.raises(LookupError):
            ws.send(broken())
        ws.wait_closed(PATIENCE)
        with pytest.raises(flowserve.ConnectionClosedError, match="sent 1011"):
            ws.receive()
        with pytest.raises(flowserve.ConnectionClosedError):
            ws.send(["x"])
        with pytest.raises(flowserve.ConnectionClosedError):
            list(ws.receive_fragments())
