"""What the server logs, and that nothing a peer sends can forge or garble a line."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve import logs
from flowserve.config import Config


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _restore():
    """Leave both loggers as they were."""
    before = [(each, each.level, each.propagate, each.handlers[:]) for each in (logs.logger, logs.access)]
    yield
    for each, level, propagate, handlers in before:
        each.setLevel(level)
        each.propagate = propagate
        each.handlers[:] = handlers


@pytest.fixture
def streams(monkeypatch):
    """Replace stdout and stderr; streams(config) sets up the logs and returns (out, err)."""

    def setup(kind=io.StringIO, **options):
        out, err = kind(), kind()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            logs.setup(Config("a:b", **options))
        return out, err

    monkeypatch.delenv("NO_COLOR", raising=False)
    return setup


def test_importing_configures_nothing():
    code = (
        "import logging, flowserve.logs as logs;"
        "assert not logs.logger.handlers and not logs.access.handlers and logs.logger.propagate;"
        "assert logging.getLevelName(5) == 'Level 5'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_server_speaks_on_stderr_and_the_access_log_on_stdout(streams):
    out, err = streams()
    logs.logger.info("listening on %s", "here")
    logs.logger.warning("careful")
    logs.access_http("127.0.0.1:5", "GET", "/", "1.1", 200, 0.0012)
    assert err.getvalue() == "INFO:     listening on here\nWARNING:  careful\n"
    assert out.getvalue() == 'INFO:     127.0.0.1:5 - "GET / HTTP/1.1" 200 1.2ms\n'


def test_a_second_setup_replaces_the_first(streams):
    first, _ = streams()
    second, _ = streams()
    logs.access_http("p", "GET", "/", "1.1", 200, 0.0)
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_nothing_goes_to_the_root_logger(streams, caplog):
    streams()
    logs.logger.error("ours")
    logs.access_http("p", "GET", "/", "1.1", 200, 0.0)
    assert not caplog.records


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("critical", {"critical"}),
        ("error", {"critical", "error"}),
        ("warning", {"critical", "error", "warning"}),
        ("info", {"critical", "error", "warning", "info", "access"}),
        ("debug", {"critical", "error", "warning", "info", "access", "debug"}),
        ("trace", {"critical", "error", "warning", "info", "access", "debug", "trace"}),
    ],
)
def test_levels(streams, level, shown):
    out, err = streams(log_level=level)
    for name in ("critical", "error", "warning", "info", "debug"):
        logs.logger.log(getattr(logging, name.upper()), name)
    logs.logger.log(logs.TRACE, "trace")
    logs.access_http("access", "GET", "/", "1.1", 200, 0.0)
    lines = (err.getvalue() + out.getvalue()).splitlines()
    assert {line.split()[1] for line in lines} == shown
    assert all(line.split()[0] == f"{line.split()[1].upper()}:" for line in lines if "access" not in line)


def test_no_access_log(streams):
    out, err = streams(access_log=False)
    logs.access_http("p", "GET", "/", "1.1", 200, 0.0)
    logs.access_websocket_open("p", "/", None)
    logs.access_websocket_close("p", "/", 1000, 0.0, 0, 0, 0, 0)
    assert out.getvalue() == err.getvalue() == ""


def test_exceptions_keep_their_traceback(streams):
    _, err = streams()
    try:
        raise ValueError("why")
    except ValueError:
        logs.logger.exception("the application raised")
    lines = err.getvalue().splitlines()
    assert lines[0] == "ERROR:    the application raised"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: why"


# The access lines


def test_access_lines(streams):
    out, _ = streams()
    logs.access_http("127.0.0.1:51234", "GET", "/path?a=b", "1.1", 404, 0.0012)
    logs.access_websocket_open("127.0.0.1:51234", "/ws", None)
    logs.access_websocket_open("[::1]:51234", "/ws", "chat.v1")
    logs.access_websocket_close("[::1]:51234", "/ws", 1000, 12.34, 12, 3400, 7, 812)
    assert out.getvalue().splitlines() == [
        'INFO:     127.0.0.1:51234 - "GET /path?a=b HTTP/1.1" 404 1.2ms',
        'INFO:     127.0.0.1:51234 - "WebSocket /ws" accepted',
        'INFO:     [::1]:51234 - "WebSocket /ws" accepted, subprotocol chat.v1',
        'INFO:     [::1]:51234 - "WebSocket /ws" closed 1000 after 12.3s, in 12 messages 3.4kB, out 7 messages 812B',
    ]


HOSTILE = [
    "/\n127.0.0.1 - forged",
    "/\r\x1b[2J",
    "/\x00\x7f\x9b31m",
    "/\u2028\u202e",
    '/" 200 0.1ms',
    "/\\n",
    "/\udc80",
    "/\u20ac",
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_what_a_peer_sends_never_reaches_the_log_raw(streams, kind, hostile):
    out, _ = streams(kind)
    logs.access_http(hostile, hostile, hostile, "1.1", 200, 0.0)
    logs.access_websocket_open(hostile, hostile, hostile)
    logs.access_websocket_close(hostile, hostile, 1000, 0.0, 0, 0, 0, 0)
    text = out.getvalue()
    assert text.count("\n") == 3
    assert hostile not in text
    bare = text.replace("\x1b[32m", "").replace("\x1b[0m", "").replace("\n", "")
    assert bare.isascii()
    assert bare.isprintable()
    assert bare.replace('\\"', "").count('"') == 6


@given(st.text())
def test_printable(text):
    shown = logs.printable(text)
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert '"' not in shown.replace('\\"', "")
    assert shown.replace('\\"', '"').encode("ascii").decode("unicode_escape") == text


@given(st.binary())
def test_plain_targets_stay_as_they_are(data):
    plain = "/" + data.hex() + "?a=%20&b=~!$'()*+,;:@"
    assert logs.printable(plain) is plain


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0ms"),
        (0.00004, "0.0ms"),
        (0.0012, "1.2ms"),
        (0.999, "999.0ms"),
        (0.99999, "1.0s"),
        (1, "1.0s"),
        (3725.04, "3725.0s"),
    ],
)
def test_times(seconds, shown):
    assert logs.show_time(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0kB"),
        (3449, "3.4kB"),
        (999_940, "999.9kB"),
        (999_999, "1.0MB"),
        (5 * 10**9, "5.0GB"),
        (10**12, "1.0TB"),
    ],
)
def test_sizes(count, shown):
    assert logs.show_bytes(count) == shown


# Colours


def test_colours_on_a_terminal_only(streams, monkeypatch):
    _, err = streams(Terminal)
    logs.logger.info("a")
    assert err.getvalue() == "\x1b[32mINFO\x1b[0m:     a\n"
    _, err = streams()
    logs.logger.info("a")
    assert err.getvalue() == "INFO:     a\n"
    monkeypatch.setenv("NO_COLOR", "1")
    _, err = streams(Terminal)
    logs.logger.info("a")
    assert err.getvalue() == "INFO:     a\n"


def test_colours_as_wished(streams):
    _, err = streams(use_colors=True)
    logs.logger.error("a")
    assert err.getvalue() == "\x1b[31mERROR\x1b[0m:    a\n"
    _, err = streams(Terminal, use_colors=False)
    logs.logger.error("a")
    assert err.getvalue() == "ERROR:    a\n"


def test_outcomes_are_coloured(streams):
    out, _ = streams(use_colors=True)
    logs.access_http("p", "GET", "/", "1.1", 200, 0.0)
    logs.access_http("p", "GET", "/", "1.1", 500, 0.0)
    logs.access_websocket_open("p", "/", None)
    logs.access_websocket_close("p", "/", 1000, 0.0, 0, 0, 0, 0)
    logs.access_websocket_close("p", "/", 1011, 0.0, 0, 0, 0, 0)
    logs.access.info("no line of ours: %(a)s", {"a": 1})
    ok, failed, opened, closed, broken, other = out.getvalue().splitlines()
    assert '" \x1b[32m200\x1b[0m 0.0ms' in ok
    assert '" \x1b[91m500\x1b[0m 0.0ms' in failed
    assert opened.endswith('"WebSocket /" accepted')
    assert " closed \x1b[32m1000\x1b[0m after" in closed
    assert " closed \x1b[33m1011\x1b[0m after" in broken
    assert other.endswith("no line of ours: 1")


# The trace


async def test_trace(streams):
    _, err = streams(log_level="trace")
    calls = []

    async def app(scope, receive, send):
        calls.append((scope, await receive()))
        await send({"type": "websocket.send", "text": "secret"})
        await send({"type": "websocket.send", "bytes": memoryview(b"secret")})

    async def receive():
        return {"type": "websocket.receive", "text": None, "bytes": b"secret"}

    async def send(message):
        calls.append(message)

    scope = {"type": "websocket", "path": "\n", "headers": [(b"cookie", b"secret")], "state": {"k": "secret"}}
    await logs.trace(app)(scope, receive, send)
    assert calls[0] == (scope, {"type": "websocket.receive", "text": None, "bytes": b"secret"})
    assert calls[1]["text"] == "secret"
    lines = err.getvalue().splitlines()
    assert lines == [
        "TRACE:    websocket #1 begins {'type': 'websocket', 'path': '\\n', 'headers': '<1 headers>', 'state': '<k>'}",
        "TRACE:    websocket #1 receive {'type': 'websocket.receive', 'text': None, 'bytes': '<6 bytes>'}",
        "TRACE:    websocket #1 send {'type': 'websocket.send', 'text': '<6 characters>'}",
        "TRACE:    websocket #1 send {'type': 'websocket.send', 'bytes': '<6 bytes>'}",
        "TRACE:    websocket #1 returned",
    ]


async def test_trace_shows_what_the_application_raises(streams):
    _, err = streams(log_level="trace")

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": iter([])})
        await send({"type": "http.response.body", "body": b"secret", "more_body": True})
        raise KeyError("mine")

    async def nothing(*message): ...

    traced = logs.trace(app)
    with pytest.raises(KeyError, match="mine"):
        await traced({"type": "http"}, nothing, nothing)
    with pytest.raises(KeyError, match="mine"):
        await traced({"type": "http"}, nothing, nothing)
    lines = err.getvalue().splitlines()
    assert lines[1] == "TRACE:    http #1 send {'type': 'http.response.start', 'status': 200, 'headers': '<headers>'}"
    assert lines[2] == "TRACE:    http #1 send {'type': 'http.response.body', 'body': '<6 bytes>', 'more_body': True}"
    assert lines[3] == "TRACE:    http #1 raised KeyError"
    assert lines[4].startswith("TRACE:    http #2 begins ")
