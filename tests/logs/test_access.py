"""The access lines: what they say, what they hold, and formats of the user's own."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowserve.logs.access import (
    FIELDS,
    CloseLine,
    HTTPLine,
    LineFormat,
    OpenLine,
    escape_for_log,
    show_bytes,
    show_time,
)

HEADERS = [(b"host", b"a"), (b"user-agent", b"curl/8.0"), (b"referer", b"https://a.example/?token=s3cret&b=1")]
REQUEST = HTTPLine("127.0.0.1:51234", "GET", "/path?a=b", "1.1", 404, 0.0012, 9, HEADERS)
OPENED = OpenLine("[::1]:51234", "/ws", "chat.v1", user_agent=b"Firefox/140")
CLOSED = CloseLine("unix", "/ws?room=1", 1001, 12.3456789, 12, 3400, 7, 812, 3, user_agent=b"Firefox/140")
LINES = (REQUEST, OPENED, CLOSED)

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


def test_lines_for_people():
    assert str(REQUEST) == '127.0.0.1:51234 - "GET /path?a=b HTTP/1.1" 404 1.2ms'
    assert str(OpenLine("127.0.0.1:1", "/ws", None)) == '127.0.0.1:1 - "WebSocket /ws" accepted'
    assert str(OPENED) == '[::1]:51234 - "WebSocket /ws" accepted, subprotocol chat.v1'
    assert str(CLOSED) == (
        'unix - "WebSocket /ws?room=1" closed 1001 after 12.3s, in 12 messages 3.4kB, out 7 messages 812B, dropped 3'
    )


def test_nothing_is_said_of_dropped_messages_when_there_are_none():
    assert str(CloseLine("unix", "/", 1000, 0.1, 0, 0, 1, 5, 0)).endswith(", out 1 message 5B")


def test_the_outcome_in_colour():
    assert REQUEST.text(True) == str(REQUEST).replace("404", "\x1b[31m404\x1b[0m")
    assert CLOSED.text(True) == str(CLOSED).replace("1001", "\x1b[32m1001\x1b[0m")
    assert OPENED.text(True) == str(OPENED)
    assert "\x1b[33m1011\x1b[0m" in CloseLine("unix", "/", 1011, 0.1, 0, 0, 0, 0, 0).text(True)
    assert "\x1b[91m700\x1b[0m" in HTTPLine("unix", "GET", "/", "1.1", 700, 0.1, 0, ()).text(True)


def test_fields():
    assert REQUEST.fields() == {
        "kind": "http",
        "event": "response",
        "client": "127.0.0.1:51234",
        "address": "127.0.0.1",
        "method": "GET",
        "target": "/path?a=b",
        "path": "/path",
        "http_version": "1.1",
        "status": 404,
        "duration": 0.0012,
        "bytes_out": 9,
        "referer": "https://a.example/?token=REDACTED&b=1",
        "user_agent": "curl/8.0",
    }
    assert OPENED.fields() == {
        "kind": "websocket",
        "event": "open",
        "client": "[::1]:51234",
        "address": "::1",
        "method": "GET",
        "target": "/ws",
        "path": "/ws",
        "http_version": "1.1",
        "status": 101,
        "user_agent": "Firefox/140",
        "subprotocol": "chat.v1",
    }
    assert CLOSED.fields() == {
        "kind": "websocket",
        "event": "close",
        "client": "unix",
        "address": "unix",
        "method": "GET",
        "target": "/ws?room=1",
        "path": "/ws",
        "http_version": "1.1",
        "status": 101,
        "user_agent": "Firefox/140",
        "duration": 12.345679,
        "close_code": 1001,
        "messages_in": 12,
        "bytes_in": 3400,
        "messages_out": 7,
        "bytes_out": 812,
        "dropped": 3,
    }
    assert "subprotocol" not in OpenLine("unix", "/", None).fields()
    assert "user_agent" not in OpenLine("unix", "/", None).fields()
    bare = HTTPLine("unix", "GET", "/", "1.1", 200, 0.1, 0, [(b"host", b"a")]).fields()
    assert not {"referer", "user_agent"} & set(bare)


@pytest.mark.parametrize(
    ("log_query", "shown"), [("full", "https://a.example/?token=s3cret&b=1"), ("omit", "https://a.example/")]
)
def test_a_referer_follows_log_query(log_query, shown):
    line = HTTPLine("unix", "GET", "/", "1.1", 200, 0.1, 0, HEADERS, log_query)
    assert line.fields()["referer"] == shown


def test_every_field_is_explained_by_an_example_of_its_type():
    for line in LINES:
        for name, value in line.fields().items():
            assert type(value) is type(FIELDS[name][0]), name
    held = {name for line in LINES for name in line.fields()}
    assert held | {"time", "time_local", "level", "pid"} == set(FIELDS)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            '%(client)s "%(method)s %(target)s" %(status)s %(duration).3f',
            [
                '127.0.0.1:51234 "GET /path?a=b" 404 0.001',
                '[::1]:51234 "GET /ws" 101 -',
                'unix "GET /ws?room=1" 101 12.346',
            ],
        ),
        ("%(kind)s %(event)s %(close_code)d", ["http response -", "websocket open -", "websocket close 1001"]),
        ("[%(status)5d|%(dropped)-4d|%(close_code)06d]", ["[  404|-   |     -]", "[  101|-   |     -]", None]),
        ("100%% of %(path)s%%", ["100% of /path%", "100% of /ws%", "100% of /ws%"]),
        ("%(subprotocol).4s", ["-", "chat", "-"]),
        (
            "common",
            [
                '127.0.0.1 - - [-] "GET /path?a=b HTTP/1.1" 404 9',
                '::1 - - [-] "GET /ws HTTP/1.1" 101 -',
                'unix - - [-] "GET /ws?room=1 HTTP/1.1" 101 812',
            ],
        ),
        (
            "combined",
            [
                '127.0.0.1 - - [-] "GET /path?a=b HTTP/1.1" 404 9 "https://a.example/?token=REDACTED&b=1" "curl/8.0"',
                '::1 - - [-] "GET /ws HTTP/1.1" 101 - "-" "Firefox/140"',
                'unix - - [-] "GET /ws?room=1 HTTP/1.1" 101 812 "-" "Firefox/140"',
            ],
        ),
    ],
)
def test_formats(text, shown):
    form = LineFormat(text)
    for line, expected in zip(LINES, shown, strict=True):
        if expected is not None:
            assert form.show(line.fields()) == expected


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("kind", ["s", "r", "5s", "-20s"])
def test_every_field_can_be_shown_as_text(name, kind):
    form = LineFormat(f"%({name}){kind}")
    for line in LINES:
        assert form.show(line.fields()).strip()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("%(h)s", "there is no field 'h'; the fields are time, time_local, level, pid, "),
        ("%(clientt)s", "there is no field 'clientt' (did you mean client?); the fields are "),
        ("%(CLIENT)s", "there is no field 'CLIENT'"),
        ("%()s", "there is no field ''"),
        ("%s", "'%s' names no field; write e.g. %(client)s"),
        ("%(client)s 100%", "'%' names no field; write e.g. %(client)s, and %% for a percent sign"),
        ("%(client", "'%(client' names no field"),
        ("%(client)", "'%(client)' does not say how to show the field; write e.g. %(client)s"),
        ("%(client)y", "'%(client)' does not say how to show the field"),
        ("%(client)d", "'%(client)d': the field is not a number; write %(client)s"),
        ("%(duration)x", "'%(duration)x': the field is not a number"),
        ("%(client)*s", "'%(client)' does not say how"),
        ("%(client)99999s", "'%(client)999' does not say how"),
        ("{client}", "'{client}' names no field; write e.g. %(client)s, or common or combined"),
        ("combind", "'combind' names no field"),
    ],
)
def test_broken_formats(text, says):
    with pytest.raises(ValueError) as caught:
        LineFormat(text)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@given(st.text(st.sampled_from("%()sdfclientx.0-*\n")))
def test_any_text_is_a_format_or_refused(text):
    try:
        form = LineFormat(text)
    except ValueError:
        return
    for line in LINES:
        form.show(line.fields())


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("form", [str, lambda line: LineFormat("%(client)s %(target)s %(path)s").show(line.fields())])
def test_what_a_peer_sends_is_never_shown_raw(hostile, form):
    lines = (
        HTTPLine(hostile, hostile, hostile, "1.1", 200, 0.0, 0, ()),
        OpenLine(hostile, hostile, hostile),
        CloseLine(hostile, hostile, 1000, 0.0, 0, 0, 0, 0, 0),
    )
    for line in lines:
        text = form(line)
        assert hostile not in text
        assert text.isascii()
        assert text.isprintable()
        assert text.replace('\\"', "").count('"') == (2 if form is str else 0)


@given(st.text())
def test_printable(text):
    shown = escape_for_log(text)
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert '"' not in shown.replace('\\"', "")
    assert shown.replace('\\"', '"').encode("ascii").decode("unicode_escape") == text


@given(st.binary())
def test_plain_targets_stay_as_they_are(data):
    plain = "/" + data.hex() + "?a=%20&b=~!$'()*+,;:@"
    assert escape_for_log(plain) is plain


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
    assert show_time(seconds) == shown


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
    assert show_bytes(count) == shown


HOSTILE_BYTES = [b'" 200 1 "forged', b"\x1b[2J\x9b31m", b"a\\", b"a\tb", "\u20ac".encode()]


@pytest.mark.parametrize("hostile", HOSTILE_BYTES)
def test_header_fields_are_never_shown_raw(hostile):
    """A quote would end the field for a program that reads the combined format."""
    line = HTTPLine("unix", "GET", "/", "1.1", 200, 0.0, 0, [(b"referer", hostile), (b"user-agent", hostile)])
    shown = LineFormat("combined").show(line.fields())
    assert shown.isascii()
    assert shown.isprintable()
    assert re.sub(r"\\.", "", shown).count('"') == 6


@pytest.mark.parametrize("line", LINES)
def test_records_have_what_uvicorns_have(line):
    """Filters and formatters that were written for uvicorn take `args` apart, and ask for the message."""
    record = logging.LogRecord("flowserve.access", logging.INFO, "", 0, line, line.uvicorn_args(), None)
    client, method, target, version, status = record.args
    assert (client, method, version) == (line.client, "GET", "1.1")
    assert (target, status) == (line.target, line.fields()["status"])
    assert record.getMessage() == line.text()
    assert type(record.getMessage()) is str  # it can be unpickled where there is no flowserve
