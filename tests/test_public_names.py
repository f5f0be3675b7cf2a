"""What `import flowserve` offers: every name without an underscore, of the package, its classes and their instances, is
one for users to use. What flowserve needs for itself has an underscore, or stands in a module of its own."""

from __future__ import annotations

import ast
import inspect
import socket
import subprocess
import sys
import uuid
from collections.abc import MutableMapping
from enum import IntEnum
from pathlib import Path

import pytest
from support.ends import open_ends

import flowserve
from flowserve.config.config import OPTIONS

CLOSED = {"code", "rcvd", "rcvd_then_sent", "reason", "sent"}
END = {"close_code", "close_reason", "closed", "wait_closed"}
RECEIVING = {"receive", "receive_fragments", "recv", "recv_streaming"}
SENDING = {"close", "ping", "pong", "send", "send_fragmented"}
HANDSHAKE = {"body", "detail", "headers", "status"}

NAMES: dict[str, set[str]] = {
    "ASGIMisuse": set(),
    "AlreadyClosed": CLOSED,
    "ClientDisconnected": set(),
    "Close": {"code", "reason"},
    "CloseCode": set(flowserve.CloseCode.__members__),
    "Config": {
        *OPTIONS,
        "app",
        "callback_notify",
        "configure_logging",
        "ssl",
        "ssl_context_factory",
        "timeout_notify",
    },
    "ConfigError": set(),
    "ConnectionClosed": CLOSED,
    "ConnectionClosedError": CLOSED,
    "ConnectionClosedOK": CLOSED,
    "Disconnect": {"code", "id", "reason"},
    "Error": {"error", "id"},
    "EventStream": {"connections"},
    "FlowserveError": set(),
    "Handshake": {"id", "local_address", "logger", "remote_address", "request", "respond"},
    "HandshakeError": HANDSHAKE,
    "Headers": {"get_all", "raw_items"},
    "InvalidProxy": set(),
    "InvalidText": {"close_code", "reason"},
    "InvalidURI": set(),
    "NewClient": {"id", "ws"},
    "NewMessage": {"id", "message"},
    "PayloadTooBig": {"close_code", "reason"},
    "ProtocolError": {"close_code", "reason"},
    "ProxyError": HANDSHAKE,
    "Reader": {"websocket"} | END | RECEIVING,
    "Request": {"headers", "path"},
    "RequestError": {"detail", "headers", "status"},
    "Response": {"body", "headers", "reason_phrase", "status_code"},
    "Server": {"announces", "become_lame_duck", "config", "cut", "handle_exit", "load", "reload_certificates", "serve"}
    | {"serves_metrics", "should_exit", "shutdown", "signalled", "snapshot", "sockets", "started", "startup"}
    | {"stop_accepting", "worn", "capture_signals", "force_exit", "install_signal_handlers", "run", "servers"},
    "StartupFailed": set(),
    "State": set(flowserve.State.__members__),
    "WebSocket": {
        "abort",
        "id",
        "latency",
        "local_address",
        "logger",
        "remote_address",
        "request",
        "response",
        "session",
    }
    | {"split"}
    | {"state", "subprotocol", "transport"}
    | END
    | RECEIVING
    | SENDING,
    "WebSocketServer": {"close", "connections", "get_loop", "is_serving", "serve_forever", "sockets", "start_serving"}
    | {"wait_closed"},
    "Writer": {"websocket"} | END | SENDING,
    "accept": set(),
    "connect": set(),
    "start_server": {"connections", "server"},
}
FUNCTIONS = ("basic_auth", "broadcast", "draining", "run", "serve", "unix_connect", "unix_serve")


BASES = (object, Exception, OSError, IntEnum, tuple, MutableMapping)


def names(public: object) -> set[str]:
    """The names without an underscore that a class or an instance has, besides those of its bases in Python."""
    kind = public if isinstance(public, type) else type(public)
    inherited = {name for base in BASES if issubclass(kind, base) for name in dir(base)}
    return {name for name in dir(public) if not name.startswith("_")} - inherited


def test_all_that_is_exported() -> None:
    assert set(flowserve.__all__) == {*NAMES, *FUNCTIONS, "__version__"}
    classes = {name for name in flowserve.__all__ if inspect.isclass(getattr(flowserve, name))}
    assert classes == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes(name: str) -> None:
    assert names(getattr(flowserve, name)) <= NAMES[name]


@pytest.mark.parametrize("name", [*NAMES, *FUNCTIONS])
def test_all_of_them_have_a_docstring(name: str) -> None:
    """What `help()` shows."""
    public = getattr(flowserve, name)
    assert inspect.getdoc(public)
    for each in NAMES.get(name, ()):
        member = inspect.getattr_static(public, each, None)
        if inspect.isroutine(member) or isinstance(member, property):
            assert inspect.getdoc(member), f"{name}.{each}"


async def test_names_of_instances() -> None:
    async def handler(ws: flowserve.WebSocket) -> None: ...

    one, other = socket.socketpair()
    closed = [kind(flowserve.Close(1000, ""), None) for kind in (flowserve.ConnectionClosed, flowserve.AlreadyClosed)]
    instances = [
        *closed,
        flowserve.Config("app:app"),
        flowserve.Disconnect(uuid.uuid4(), 1000, ""),
        flowserve.EventStream(),
        flowserve.Handshake(flowserve.Request("/", flowserve.Headers()), None, None),
        flowserve.HandshakeError(400, "no"),
        flowserve.Headers(),
        flowserve.NewMessage(uuid.uuid4(), ""),
        flowserve.ProtocolError("wrong"),
        flowserve.Request("/", flowserve.Headers()),
        flowserve.RequestError(400, "no"),
        flowserve.Response(200, "OK", flowserve.Headers()),
        flowserve.Server(flowserve.Config("app:app")),
        flowserve.accept(one),
        flowserve.connect("ws://localhost/"),
        flowserve.serve(handler, "localhost", 0),
        flowserve.start_server(0),
    ]
    one.close()
    other.close()
    for instance in instances:
        assert names(instance) == NAMES[type(instance).__name__]
    async with open_ends("server") as (ws, _):
        for instance in (ws, *ws.split()):
            assert names(instance) == NAMES[type(instance).__name__]
        assert names(ws.receive_fragments()) == {"aclose"}


def test_type_checkers_see_the_names_that_are_there() -> None:
    """flowserve/__init__.py has them twice, as it imports each at its first use."""
    tree = ast.parse(Path(flowserve.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == flowserve._MODULES


def test_what_is_not_used_is_not_imported() -> None:
    script = (
        "import sys, flowserve\n"
        "flowserve.Server\n"
        "assert 'flowserve.server.server' in sys.modules\n"
        "assert not {'flowserve.client.connect', 'flowserve.sync', 'flowserve.commands'} & set(sys.modules)\n"
        "assert flowserve.sync.connect\n"
        "assert not hasattr(flowserve, 'nothing_like_that')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
