"""Colours, and formats for machines and of the user's own."""

from __future__ import annotations

import io
import json
import os
import re
import time
from datetime import datetime, timezone

import pytest

from flowserve.logs import loggers
from flowserve.logs.loggers import access, access_http, access_websocket_close, access_websocket_open, logger


class Terminal(io.StringIO):
    def isatty(self):
        return True


# Colours


def test_colours_on_a_terminal_only(streams, monkeypatch):
    _, err = streams(Terminal)
    logger.info("a")
    assert err.getvalue() == "\x1b[32mINFO\x1b[0m:     a\n"
    _, err = streams()
    logger.info("a")
    assert err.getvalue() == "INFO:     a\n"
    monkeypatch.setenv("NO_COLOR", "1")
    _, err = streams(Terminal)
    logger.info("a")
    assert err.getvalue() == "INFO:     a\n"


def test_colours_as_wished(streams):
    _, err = streams(use_colors=True)
    logger.error("a")
    assert err.getvalue() == "\x1b[31mERROR\x1b[0m:    a\n"
    _, err = streams(Terminal, use_colors=False)
    logger.error("a")
    assert err.getvalue() == "ERROR:    a\n"


def test_outcomes_are_coloured(streams):
    out, _ = streams(use_colors=True)
    access_http("p", "GET", "/", "1.1", 200, 0.0)
    access_http("p", "GET", "/", "1.1", 500, 0.0)
    access_websocket_open("p", "/", None)
    access_websocket_close("p", "/", 1000, 0.0, 0, 0, 0, 0)
    access_websocket_close("p", "/", 1011, 0.0, 0, 0, 0, 0)
    access.info("no line of ours: %(a)s", {"a": 1})
    ok, failed, opened, closed, broken, other = out.getvalue().splitlines()
    assert '" \x1b[32m200\x1b[0m 0.0ms' in ok
    assert '" \x1b[91m500\x1b[0m 0.0ms' in failed
    assert opened.endswith('"WebSocket /" accepted')
    assert " closed \x1b[32m1000\x1b[0m after" in closed
    assert " closed \x1b[33m1011\x1b[0m after" in broken
    assert other.endswith("no line of ours: 1")


# Formats for machines and of the user's own


def parsed(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json(streams):
    out, err = streams(log_format="json")
    logger.warning("careful with %s", "that\n\u2028\udc80")
    access_http("127.0.0.1:5", "GET", '/a"\n?b', "1.1", 200, 0.25)
    access_websocket_open("127.0.0.1:5", "/ws", None)
    access_websocket_close("127.0.0.1:5", "/ws", 1000, 1.5, 1, 2, 3, 4, 5)
    (warning,) = parsed(err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", warning["time"])
    moment = datetime.fromisoformat(warning.pop("time").replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - moment).total_seconds()) < 600
    assert warning == {
        "level": "WARNING",
        "logger": "flowserve",
        "pid": os.getpid(),
        "message": "careful with that\n\u2028\udc80",
    }
    assert list(json.loads(err.getvalue())) == ["time", "level", "logger", "pid", "message"]
    assert out.getvalue().isascii()
    request, opened, closed = parsed(out)
    assert request["message"] == '127.0.0.1:5 - "GET /a\\"\\n?b HTTP/1.1" 200 250.0ms'
    assert (request["logger"], request["level"]) == ("flowserve.access", "INFO")
    assert (request["target"], request["path"], request["status"], request["duration"]) == (
        '/a"\n?b',
        '/a"\n',
        200,
        0.25,
    )
    assert (opened["kind"], opened["event"], opened["status"]) == ("websocket", "open", 101)
    assert [closed[key] for key in ("close_code", "duration", "messages_in", "bytes_in")] == [1000, 1.5, 1, 2]
    assert [closed[key] for key in ("messages_out", "bytes_out", "dropped")] == [3, 4, 5]


def test_json_has_the_traceback(streams):
    _, err = streams(log_format="json")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("the application raised", stack_info=True)
    (entry,) = parsed(err)
    assert entry["message"] == "the application raised"
    assert entry["exception"].startswith("Traceback (most recent call last):\n")
    assert entry["exception"].endswith("\nValueError: why")
    assert "test_json_has_the_traceback" in entry["stack"]


def test_a_format_for_access_lines(streams):
    out, err = streams(access_log_format="%(level)s %(kind)s %(client)s %(path)s %(status)s %(close_code)s")
    logger.info("as ever")
    access_http("p", "GET", "/\n?q", "1.1", 200, 0.0)
    access_websocket_close("p", "/", 1000, 0.0, 0, 0, 0, 0)
    access.info("no line of ours")
    assert err.getvalue() == "INFO:     as ever\n"
    assert out.getvalue() == "INFO http p /\\n 200 -\nINFO websocket p / 101 1000\nno line of ours\n"


def test_time_and_pid_in_a_format(streams):
    out, _ = streams(access_log_format="%(time)s %(pid)d")
    access_http("p", "GET", "/", "1.1", 200, 0.0)
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {os.getpid()}\n", out.getvalue())


def test_a_format_is_the_message_in_json(streams):
    out, _ = streams(log_format="json", access_log_format="%(method)s %(status)s")
    access_http("p", "GET", "/", "1.1", 200, 0.0)
    (entry,) = parsed(out)
    assert (entry["message"], entry["client"]) == ("GET 200", "p")


@pytest.mark.parametrize("options", [{"access_log": False}, {"log_level": "warning"}])
def test_a_line_that_is_not_logged_is_not_made(streams, monkeypatch, options):
    out, _ = streams(access_log_format="%(client)s", **options)

    def never(*values):
        raise AssertionError("made in vain")

    for name in ("HTTPLine", "OpenLine", "CloseLine"):
        monkeypatch.setattr(loggers, name, never)
    access_http("p", "GET", "/", "1.1", 200, 0.0)
    access_websocket_open("p", "/", None)
    access_websocket_close("p", "/", 1000, 0.0, 0, 0, 0, 0)
    assert out.getvalue() == ""


def test_the_combined_format(streams, monkeypatch):
    """As Apache and nginx write it: with one line for a WebSocket, at its end."""
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    out, _ = streams(access_log_format="combined")
    headers = [(b"user-agent", b"curl/8.0"), (b"referer", b"http://a/")]
    access_http("10.0.0.1:5", "GET", "/x", "1.1", 200, 0.25, 5, headers)
    access_websocket_open("10.0.0.1:5", "/ws", None)
    access_websocket_close("10.0.0.1:5", "/ws", 1000, 1.5, 1, 2, 3, 4)
    monkeypatch.undo()
    time.tzset()
    request, websocket = out.getvalue().splitlines()
    found = re.fullmatch(r'10\.0\.0\.1 - - \[(.+?)\] "GET /x HTTP/1\.1" 200 5 "http://a/" "curl/8\.0"', request)
    assert found
    moment = datetime.strptime(found[1], "%d/%b/%Y:%H:%M:%S %z")
    assert found[1].endswith(" +0200")
    assert abs((datetime.now(timezone.utc) - moment).total_seconds()) < 600
    assert websocket.endswith('] "GET /ws HTTP/1.1" 101 4 "-" "-"')
