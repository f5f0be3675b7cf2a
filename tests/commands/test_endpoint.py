"""What `flowserve connect` and `flowserve bench` have in common: the way to a server, and what is told of failures."""

from __future__ import annotations

import asyncio

import click
import pytest
import trustme
from support.helpers import echo, within

from flowserve.commands.endpoint import (
    Endpoint,
    Unreachable,
    endpoint_options,
    escape_for_terminal,
    make_endpoint,
    one_line,
    url_argument,
)
from flowserve.errors import ConfigError


def target(*args: str) -> Endpoint:
    """What the options of a command line describe."""
    params = [url_argument(), *endpoint_options(compression=True, ping_interval=20.0, timeout_help="")]
    given = dict(click.Command("command", params=params).make_context("command", list(args)).params)
    return make_endpoint(given.pop("url"), given)


async def failure(*args: str) -> str:
    with pytest.raises(Unreachable) as raised:
        await within(target(*args).open())
    text = str(raised.value)
    assert "\n" not in text
    return text


def test_what_a_terminal_would_obey_is_made_visible():
    assert escape_for_terminal("a\tb\nc \xe9 \u65e5") == "a\tb\nc \xe9 \u65e5"
    assert escape_for_terminal("\x1b[2J\r\x07\x9b\u202e") == r"\x1b[2J\r\x07\x9b\u202e"
    assert one_line(" a\n\x07 b ") == r"a \x07 b"


async def test_the_request(stage, serve):
    server = await serve(stage)
    options = ("-H", "X-Key: a", "-H", "x-key: b:c", "--origin", "https://e.com", "--subprotocol", "v2")
    opening = asyncio.ensure_future(target(server.ws_url + "/path?q=1", "--no-compression", *options).open())
    act = await stage.next()
    headers = act.scope["headers"]
    assert [value for name, value in headers if name == b"x-key"] == [b"a", b"b:c"]
    assert dict(headers)[b"origin"] == b"https://e.com"
    assert b"sec-websocket-extensions" not in dict(headers)
    assert act.scope["subprotocols"] == ["v2"]
    assert (act.scope["path"], act.scope["query_string"]) == ("/path", b"q=1")
    await act.accept(subprotocol="v2")
    ws = await within(opening)
    assert ws.subprotocol == "v2"
    ws.abort()


async def test_certificates(serve, tmp_path, capsys):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    url = (await serve(echo, ssl_certfile=str(tmp_path / "server.pem"))).ws_url
    for options in (("--ca-file", str(tmp_path / "ca.pem")), ("--insecure",)):
        ws = await within(target(url, *options).open())
        await ws.send("a")
        assert await within(ws.receive()) == "a"
        await ws.close()
        ws.transport.close()  # asyncio in Python 3.10 warns else, though it is lost
    assert capsys.readouterr().err == "flowserve: warning: --insecure: whoever answers is believed to be the server\n"


async def test_a_unix_domain_socket(serve, tmp_path):
    path = str(tmp_path / "s.sock")
    await serve(echo, uds=path)
    ws = await within(target("ws://localhost/", "--uds", path).open())
    await ws.close()


async def test_proxies(serve, monkeypatch):
    url = (await serve(echo)).ws_url
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for options in ((), ("--proxy", "http://127.0.0.1:1")):
        told = "can't connect to the proxy http://127.0.0.1:1: Connection refused; see --proxy"
        assert await failure(url, *options) == told
    ws = await within(target(url, "--proxy", "none").open())
    await ws.close()


async def test_refusals(serve):
    async def refuses(scope, receive, send):
        await receive()
        await send({"type": "websocket.http.response.start", "status": int(scope["path"][1:]), "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no entry\n\x1b[2J" + b"x" * 500})

    url = (await serve(refuses)).ws_url
    said = "no entry \\x1b[2J" + "x" * 184 + "..."
    hint = "it may want an --origin, or a header (-H)"
    assert await failure(url + "/403") == f"{url}/403 answered 403 Forbidden: {said}; {hint}"
    assert await failure(url + "/404") == f"{url}/404 answered 404 Not Found: {said}; is the path right?"
    assert await failure(url + "/599") == f"{url}/599 answered 599: {said}"


async def test_nobody_answers(serve, stage):
    plain, silent = (await serve(echo)).ws_url, (await serve(stage)).ws_url
    late = f"timed out after 0.05 s while waiting for the answer of {silent}/ (--timeout)"
    assert await failure(silent, "--timeout", "50ms") == late
    assert (await failure(plain.replace("ws:", "wss:"))).endswith("; is it ws:// instead of wss://?")
    refused = "can't connect to ws://127.0.0.1:1/: Connection refused; is the server running?"
    assert await failure("ws://127.0.0.1:1") == refused
    missing = "can't connect to unix:/no/such: No such file or directory; is the server running?"
    assert await failure("ws://localhost/", "--uds", "/no/such") == missing


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["ws://a", "-H", "no colon"], "'no colon' is not a header; write 'Name: value'"),
        (["ws://a", "--max-size", "big"], "'big' is not a size; write a number of bytes or e.g. 16MiB, or off"),
        (["ws://a", "--insecure"], "--insecure is about certificates: it needs a URL that begins with wss://"),
        (["ws://a", "--ca-file", "f"], "--ca-file is about certificates: it needs a URL that begins with wss://"),
        (["ws://a b"], "has blanks or control characters in it, e.g. ws://127.0.0.1:8000/"),
    ],
)
def test_wrong_options(args, words):
    with pytest.raises(click.UsageError) as raised:
        target(*args)
    assert words in raised.value.format_message()


def test_a_file_without_certificates(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match="--ca-file: can't read certificates from "):
        target("wss://a", "--ca-file", str(tmp_path / "ca.pem"))
