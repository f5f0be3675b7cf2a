"""What a WebSocket keeps for its user, says of itself, and bears with: attributes, repr, subclasses."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import logging
import sys
import uuid
import weakref

import pytest
from support.ends import open_ends
from support.helpers import PONG, Frame, within

import flowserve
from flowserve import ConnectionClosedError, Handshake, Headers, WebSocket, connect, serve
from flowserve.library.messages import Request
from flowserve.library.properties import session_of

roles = pytest.mark.parametrize("role", ["client", "server"])


# Attributes


@roles
async def test_it_takes_attributes(role):
    async with open_ends(role) as (ws, _):
        ws.user = "Ada"
        assert (ws.user, vars(ws)) == ("Ada", {"user": "Ada"})
        del ws.user
        assert not hasattr(ws, "user")


@roles
@pytest.mark.parametrize("name", ["state", "closed", "request", "id"])
async def test_what_it_says_of_itself_cannot_be_set(role, name):
    async with open_ends(role) as (ws, _):
        with pytest.raises(AttributeError):
            setattr(ws, name, "x")


async def test_attributes_do_not_keep_it_alive():
    async with open_ends("client", close_timeout=0.1) as (ws, _):
        ws.itself = ws
        known = weakref.ref(ws)
        await ws.close()
    del ws, _
    gc.collect()
    assert known() is None


async def test_it_is_small():
    """An idle connection owns little: the heads stay bytes until somebody asks, and attributes cost what they hold."""
    async with open_ends("server") as (ws, _):
        assert sys.getsizeof(ws) <= 160
        assert isinstance(gc.get_referents(ws), list)
        assert not any(isinstance(each, (Headers, Request)) for each in gc.get_referents(ws))
        assert ws.request is ws.request


async def test_its_logger():
    own = logging.getLogger("chat")
    async with open_ends("client") as (ws, _):
        assert ws.logger.name == "flowserve"
        ws.logger = own
        assert ws.logger is own


# What process_request passes on


async def greet(ws):
    await ws.send(f"{ws.user} {ws.id == ws.known_as}")


async def test_process_request_passes_attributes_to_the_handler():
    async def know(handshake, request):
        handshake.user = request.headers["X-User"]
        handshake.known_as = handshake.id

    async with serve(greet, "127.0.0.1", 0, process_request=know) as server:
        port = server.sockets[0].getsockname()[1]
        for user in ("Ada", "Bob"):
            async with connect(f"ws://127.0.0.1:{port}/", additional_headers={"X-User": user}) as ws:
                assert await within(ws.receive()) == f"{user} True"


def test_a_handshake_says_what_it_does_not_take():
    handshake = Handshake(Request("/", Headers()), ("127.0.0.1", 1), ("127.0.0.1", 2))
    for name in ("request", "remote_address", "respond", "send", "state", "close"):
        with pytest.raises(AttributeError, match=f"'{name}' can't be set on a Handshake"):
            setattr(handshake, name, 1)
    with pytest.raises(AttributeError, match="no 'send': there is no WebSocket before"):
        handshake.send("x")
    with pytest.raises(AttributeError, match="no attribute 'user'; nobody has set it"):
        _ = handshake.user
    assert "127.0.0.1" in repr(handshake)


@pytest.mark.parametrize(
    "value",
    [
        flowserve.Config("app"),
        flowserve.NewClient(uuid.UUID(int=1), None),
        flowserve.NewMessage(uuid.UUID(int=1), "x"),
        flowserve.Disconnect(uuid.UUID(int=1), 1000, ""),
        flowserve.Error(uuid.UUID(int=1), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_say_that_they_do_not_change(value):
    for name in ("id", "user"):
        with pytest.raises(AttributeError, match=f"'{name}' can't be set: a {type(value).__name__} does not change"):
            setattr(value, name, 1)
        with pytest.raises(AttributeError, match="takes no attributes"):
            delattr(value, name)
    assert dataclasses.replace(value) == value


# repr, and pong()


@roles
async def test_repr_has_role_peer_and_state(role):
    async with open_ends(role) as (ws, peer):
        assert repr(ws) == f"<WebSocket {role}, peer {peer.address!r}, OPEN>"
        peer.leave()
        await within(ws.wait_closed())
        assert repr(ws).startswith(f"<WebSocket {role}, peer ")
        assert repr(ws).endswith(", CLOSED 1006>")


@roles
async def test_a_pong_that_nobody_asked_for(role):
    async with open_ends(role) as (ws, peer):
        await ws.pong()
        await ws.pong("für")
        await ws.split()[1].pong(memoryview(b"abcdef")[::2])
        assert [await peer.frame() for _ in range(3)] == [
            Frame(PONG, b""),
            Frame(PONG, "für".encode()),
            Frame(PONG, b"ace"),
        ]
        with pytest.raises(ValueError, match="125 bytes at most, not 126"):
            await ws.pong(b"x" * 126)
        with pytest.raises(TypeError, match="what a pong carries is str or bytes, not int"):
            await ws.pong(5)
        peer.leave()
        await within(ws.wait_closed())
        with pytest.raises(ConnectionClosedError):
            await ws.pong()


async def test_a_ping_may_be_awaited_twice():
    """As programs for the websockets library do."""
    async with (
        serve(lambda ws: ws.wait_closed(), "127.0.0.1", 0) as server,
        connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as ws,
    ):
        pong = await within(ws.ping())
        assert isinstance(pong, float)
        assert await within(pong) == pong == ws.latency


# Subclasses


class Forgetful(WebSocket):
    def __init__(self):
        pass


@pytest.mark.parametrize(
    "use",
    [
        lambda ws: ws.send("x"),
        lambda ws: ws.receive(),
        lambda ws: ws.ping(),
        lambda ws: ws.pong(),
        lambda ws: ws.close(),
        lambda ws: ws.wait_closed(),
        lambda ws: ws.__anext__(),
        lambda ws: ws.send(["a", "b"]),
    ],
)
async def test_a_subclass_without_its_session(use):
    with pytest.raises(RuntimeError, match=r"Forgetful\.__init__\(\) did not call WebSocket\.__init__\(\)"):
        await use(Forgetful())


@pytest.mark.parametrize(
    "use",
    [
        WebSocket.receive_fragments,
        WebSocket.abort,
        WebSocket._on_data,
        lambda ws: session_of(ws),
        lambda ws: ws.closed,
        lambda ws: ws.close_code,
        lambda ws: ws.latency,
        lambda ws: ws._on_lost(None),
        lambda ws: ws.remote_address,
        lambda ws: flowserve.broadcast([ws], "x"),
    ],
)
def test_a_subclass_without_its_session_says_so_at_once(use):
    with pytest.raises(RuntimeError, match="did not call"):
        use(Forgetful())
    assert repr(Forgetful()) == "<Forgetful.__init__() did not call WebSocket.__init__()>"


@pytest.mark.parametrize("stranger", [None, object(), Forgetful], ids=["None", "object", "class"])
async def test_a_stranger_for_self(stranger):
    with pytest.raises(TypeError):
        await WebSocket.send(stranger, "x")
    with pytest.raises(TypeError):
        WebSocket.abort(stranger)


def test_methods_are_known_for_what_they_are():
    """Frameworks ask whether to await what they call."""
    assert inspect.iscoroutinefunction(WebSocket.send)
    assert inspect.iscoroutinefunction(Forgetful().close)
    assert str(inspect.signature(Forgetful().close)).startswith("(code: 'int' = 1000, reason: 'str' = '')")


async def test_a_subclass_that_does_it_right():
    class Chatter(WebSocket):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.lines = 0

    async with open_ends("client") as (ws, peer):
        chatter = Chatter(session_of(ws), None)
        await chatter.send("x")
        assert (await peer.frame()).payload == b"x"
        assert (chatter.lines, repr(chatter).split()[0]) == (0, "<Chatter")
        session_of(ws).monitor = ws  # whom the end is told
