"""Secrets in queries and URIs, and that no line of the log, no error and no output of a command shows them."""

from __future__ import annotations

import json
import logging
import urllib.parse

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import Client, echo, until, within

from flowserve import HandshakeError, InvalidURI, connect
from flowserve.client.proxies import parse_proxy
from flowserve.client.redirects import redirect_location
from flowserve.client.uri import parse_uri
from flowserve.commands.bench.command import bench
from flowserve.config import Config
from flowserve.hosting.handshake import Handshake
from flowserve.http.headers import Headers
from flowserve.library.messages import Request
from flowserve.logs import AccessFormatter, JSONFormatter
from flowserve.logs.access import CloseLine, OpenLine
from flowserve.logs.formatters import HumanFormatter
from flowserve.logs.redaction import (
    SECRET_ENDINGS,
    SECRET_NAMES,
    SECRET_PARTS,
    redact_query,
    redact_referer,
    redact_target,
    redact_uri,
)
from flowserve.logs.trace import trace

SECRET = "s3cr3t-v4lu3"

NAMES = [
    *("token", "access_token", "id_token", "refresh_token", "csrfmiddlewaretoken", "X-Amz-Security-Token"),
    *("key", "api_key", "apikey", "subscription-key", "AWSAccessKeyId", "X-Amz-Credential"),
    *("sig", "signature", "X-Amz-Signature", "X-Goog-Signature"),
    *("auth", "password", "pwd", "secret", "client_secret", "code", "jwt", "SAMLResponse"),
    *("session", "sessionid", "PHPSESSID", "sid", "ticket"),
    *("tokens", "bearer_token_v2", "private_key_id", "pw", "pin", "code_verifier", "secret_access"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spelled", [str.upper, str.lower, str.title, lambda name: f"%{ord(name[0]):02x}{name[1:]}"])
def test_values_of_names_that_look_like_a_secrets(name, spelled):
    name = spelled(name)
    assert redact_query(f"room=1&{name}={SECRET}&user=2") == f"room=1&{name}=REDACTED&user=2"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ""),
        ("room=1", "room=1"),
        ("token", "token"),
        ("token=", "token="),
        ("token&room=1", "token&room=1"),
        ("=s3cr3t", "=s3cr3t"),
        ("token=s3cr3t", "token=REDACTED"),
        ("token==s3=cr3t=", "token=REDACTED"),
        ("token=s3cr3t&token=an0ther&token=", "token=REDACTED&token=REDACTED&token="),
        ("&&token=s3cr3t&", "&&token=REDACTED&"),
        ("%74%4f%4Ben=s3cr3t", "%74%4f%4Ben=REDACTED"),
        ("access%5Ftoken=s3cr3t", "access%5Ftoken=REDACTED"),
        ("access-token=s&access.token=s&aToken=s", "access-token=REDACTED&access.token=REDACTED&aToken=REDACTED"),
        ("token[]=s3cr3t&user[password]=s3cr3t&token2=s", "token[]=REDACTED&user[password]=REDACTED&token2=REDACTED"),
        ("+token=s3cr3t", "+token=REDACTED"),
        ("a=1;token=s3cr3t;b=2", "a=1;token=REDACTED"),
        ("password=s3;cr3t&b=2", "password=REDACTED&b=2"),
        ("password=;s3cr3t&b=2", "password=REDACTED&b=2"),
        ("a?token=s3cr3t", "a?token=REDACTED"),
        ("token=\xff\xfe&t\xff=1", "token=REDACTED&t\xff=1"),
        ("%ff%fetoken=s3cr3t", "%ff%fetoken=REDACTED"),
        ("token%00=s3cr3t", "token%00=REDACTED"),
        ("%zztoken=s3cr3t&%=1&%7=2", "%zztoken=REDACTED&%=1&%7=2"),
        ("eyJhbGciOiJub25lIn0.e30.", "REDACTED"),
        ("a=1;eyJhbGciOiJub25lIn0.e30.", "a=1;REDACTED"),
        ("room=eyJhbGciOiJub25lIn0.e30.&b=2", "room=REDACTED&b=2"),
        ("keyword=1&pinned=2&monk=3&encoded=4&authors=5", "keyword=1&pinned=2&monk=3&encoded=4&authors=5"),
        ("x" * 70000 + "token=s3cr3t", "x" * 70000 + "token=REDACTED"),
        ("token=s3cr3t&" + "a&" * 300, "REDACTED"),
    ],
)  # fmt: skip
def test_queries(query, shown):
    assert redact_query(query) == shown


def test_targets():
    assert redact_target("/a?token=s&b") == "/a?token=REDACTED&b"
    assert redact_target("/a?token=s&b", "omit") == "/a"
    assert redact_target("/a?token=s&b", "full") == "/a?token=s&b"
    for wanted in ("redact", "omit", "full"):
        assert redact_target("/token=s", wanted) == "/token=s"
    assert (redact_target("/?"), redact_target("/?", "omit")) == ("/?", "/")


def test_the_lists_are_such_as_names_are_compared_with():
    for name in (*SECRET_NAMES, *SECRET_ENDINGS, *SECRET_PARTS):
        assert name.isascii()
        assert name.isalpha()
        assert name == name.lower()
    assert not [name for name in SECRET_NAMES if name.endswith(SECRET_ENDINGS)]


@given(st.text("abtoken%5f=&;?+"), st.sampled_from(NAMES), st.text("abc&;=%", max_size=9))
def test_no_secret_is_left_whatever_is_around_it(before, name, after):
    """As a server reads it that takes '&' for the separator."""
    query = f"{before}&{name}={SECRET}{after}"
    shown = redact_query(query)
    assert SECRET not in shown
    if not after.startswith(("&", ";", "=")):
        assert (name, "REDACTED") in urllib.parse.parse_qsl(shown, keep_blank_values=True) or shown == "REDACTED"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("wss://me:s3cr3t@h/a?token=s3cr3t", "wss://h/a?token=REDACTED"),
        ("wss://me:s3/cr3t@h/a", "wss://h/a"),
        ("wss://me:s3?cr#3t@h/a", "wss://h/a"),
        ("me:s3cr3t@h", "h"),
        ("ws:/me:s3cr3t@h/a", "h/a"),
        ("ws://h/a:b@c", "ws://c"),  # as "a:b" could be meant for user and password
        ("h/?token=s3cr3t", "h/?token=REDACTED"),
    ],
)
def test_uris(uri, shown):
    assert redact_uri(uri) == shown


# Where they could be shown

TARGET = f"/ws?room=1&access_token={SECRET}"
SHOWN = "/ws?room=1&access_token=REDACTED"


def lines(handler):
    """All that was logged, as each of the formats writes it."""
    forms = [
        HumanFormatter(),
        HumanFormatter(True),
        JSONFormatter(),
        AccessFormatter("%(target)s %(path)r"),
        logging.Formatter(),
    ]
    return [form.format(record) for record in handler.records for form in forms]


@pytest.fixture
def everything(logs):
    """What is logged at any level."""
    loggers = [logging.getLogger(name) for name in ("flowserve", "flowserve.access")]
    for each in loggers:
        each.setLevel(1)
    logs.setLevel(1)
    return logs


async def ask(server, target, *fields):
    client = await Client.connect(server.address)
    head = "\r\n".join([f"GET {target} HTTP/1.1", "Host: h", "Connection: close", *fields, "", ""])
    await client.raw(head.encode("latin-1"))
    try:
        return await client.rest()
    finally:
        await client.aclose()


async def fails(scope, receive, send):
    raise RuntimeError("as it was told to")


@pytest.mark.app_fails
@pytest.mark.parametrize(
    ("wanted", "shown"), [("redact", SHOWN), ("omit", "/ws"), ("full", TARGET)]
)  # fmt: skip
async def test_no_line_of_the_server_shows_one(serve, everything, wanted, shown):
    handshake = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    options = {"log_query": wanted, "log_level": "trace"}
    server = await serve(fails, allowed_hosts=["h"], **options)
    await ask(server, TARGET)  # a 500, with the application's error
    await ask(server, TARGET, *handshake, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # refused by it
    await ask(server, TARGET, *handshake, "Sec-WebSocket-Key: short")  # a bad handshake
    await ask(server, TARGET + " a b")  # no request at all
    await ask(server, TARGET + "#fragment")
    await ask(server, TARGET, "Host: evil")  # not allowed
    await ask(server, f"http://h{TARGET}")
    server = await serve(echo, **options)
    client = await within(Client.connect(server.address))
    await client.upgrade(TARGET)
    await client.send_close(1000)
    await client.rest()
    await client.aclose()
    await until(lambda: any(isinstance(record.msg, CloseLine) for record in everything.records))
    said = lines(everything)
    assert any(shown in line for line in said)
    access = [record.msg.fields()["target"] for record in everything.records if record.name == "flowserve.access"]
    assert len(access) >= 5
    assert set(access) == {shown}
    if wanted != "full":
        assert not [line for line in said if SECRET in line]
        assert not [record for record in everything.records if SECRET in repr(record.msg) + repr(record.args)]


async def test_the_trace_of_a_scope(everything):
    async def app(scope, receive, send):
        pass

    scope = {"type": "http", "query_string": f"a=1&token={SECRET}\xff&b=\xff".encode("latin-1")}
    for wanted, shown in (("redact", rb"a=1&token=REDACTED&b=\xff"), ("omit", b""), ("full", SECRET.encode())):
        everything.records.clear()
        await trace(app, wanted)(scope, None, None)
        (begin,) = [line for line in everything.lines(level=1) if "begins" in line]
        assert shown.decode() in begin
        assert (SECRET in begin) == (wanted == "full")


async def test_no_error_of_a_client_shows_one(serve, everything, unused_tcp_port):
    async def refuse(scope, receive, send):
        await receive()
        await send({"type": "websocket.close"})

    server = await serve(refuse)
    shown = []
    for uri in (
        f"ws://me:{SECRET}@127.0.0.1:{server.port}{TARGET}",
        f"ws://me:{SECRET}@127.0.0.1:{unused_tcp_port}{TARGET}",
        f"ws://me:{SECRET}@[::1{TARGET}",
        f"ws://me:{SECRET}/@h{TARGET}",
        f"ws://me:{SECRET}@h:port{TARGET}",
        f"http://me:{SECRET}@h{TARGET}",
        f"ws://h{TARGET}#fragment",
        f"ws://h{TARGET}".encode(),
    ):
        with pytest.raises((HandshakeError, OSError, InvalidURI)) as caught:
            await connect(uri, proxy=None, open_timeout=5)
        shown += [str(caught.value), repr(caught.value)]
        shown += [str(caught.value.__cause__), str(getattr(caught.value, "__notes__", ""))]
    for location in (f"//me:{SECRET}@h:port{TARGET}", f"http://h:99999{TARGET}", f"ftp://h{TARGET}"):
        moved = HandshakeError(302, "moved", [(b"location", location.encode())])
        with pytest.raises(HandshakeError) as caught:
            redirect_location(parse_uri("wss://h/"), moved)
        shown.append(str(caught.value))
    with pytest.raises(Exception, match="proxy") as caught:
        parse_proxy(f"http://me:{SECRET}@h:port/")
    shown.append(str(caught.value))
    shown.append(repr(Handshake(Request(TARGET, Headers([])), None, None)))
    assert not [text for text in shown if SECRET in text]


@pytest.mark.parametrize("url", [f"ws://me:{SECRET}@127.0.0.1:9{TARGET}", f"ws://me:{SECRET}/@h{TARGET}"])
def test_no_command_of_a_client_shows_one(url):
    from flowserve.commands.connect.command import talk

    for command in (bench, talk):
        run = CliRunner().invoke(command, [url])
        told = run.output + str(run.exception)
        assert run.exit_code != 0
        assert SECRET not in told
        assert told.strip()


def test_json_lines_are_as_safe():
    record = logging.LogRecord("flowserve.access", logging.INFO, "", 0, OpenLine("c", SHOWN, None), None, None)
    assert json.loads(JSONFormatter().format(record))["target"] == SHOWN


def test_the_default_is_to_redact():
    assert Config("a:b").log_query == "redact"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://a.example/b?c=d", "https://a.example/b?c=d"),
        ("https://a.example/@user?code=s3cret&c=d", "https://a.example/@user?code=REDACTED&c=d"),
        ("https://user:s3cret@a.example/?q=b@c", "https://a.example/?q=b@c"),
        ("//user@a.example/", "//a.example/"),
        ("https://a.example/?a=b#access_token=s3cret", "https://a.example/?a=b"),
        ("about:blank", "about:blank"),
        ("", ""),
    ],
)
def test_referers(uri, shown):
    assert redact_referer(uri) == shown
    assert redact_referer(uri, "full") == uri
    assert redact_referer(uri, "omit") == shown.partition("?")[0]
