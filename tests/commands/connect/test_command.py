"""`flowserve connect`: with pipes, and in a terminal."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import stat
import subprocess
import sys

import pytest
import trustme
from click.testing import CliRunner
from support.helpers import echo, within
from support.terminal import ENVIRONMENT, Terminal, flowserve

from flowserve.cli import main
from flowserve.websocket.server_handshake import accept_key


async def polite(scope, receive, send):
    """An echo that closes after a message that ends in 'bye'."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
        if (event.get("text") or "").endswith("bye") or (event.get("bytes") or b"").endswith(b"bye"):
            await send({"type": "websocket.close"})
            return


async def connect(*args: str, stdin: bytes = b"", **environment: str) -> tuple[int, str, str]:
    return await flowserve("connect", *args, stdin=stdin, **environment)


# Pipes


async def test_lines_come_back(serve):
    server = await serve(polite)
    lines = "".join(f"{number} é\n" for number in range(5000)) + "\nthe last has no end: bye"
    assert await connect(server.ws_url, "--wait", "forever", stdin=lines.encode()) == (0, lines + "\n", "")


async def test_after_the_end_of_the_input_it_waits_for_answers_but_not_for_ever(serve):
    server = await serve(echo)
    assert await connect(server.ws_url, stdin=b"hello") == (0, "hello\n", "")


async def test_answers_that_take_their_time_are_waited_for(stage, serve):
    server = await serve(stage)
    running = asyncio.ensure_future(connect(server.ws_url, "--wait", "forever", stdin=b"question\r\n"))
    act = await stage.next()
    await act.accept()
    assert (await act.receive())["text"] == "question"
    await act.send_text("two\nlines")
    await act.send_text("done")
    await act.close()
    act.leave()
    assert await within(running) == (0, "two\nlines\ndone\n", "")


async def test_binary_lines(serve):
    url = (await serve(polite)).ws_url
    lines = b"\xff\0\n\rb\r\nbye\n"
    encoded = b"".join(base64.b64encode(each) + b"\n" for each in (os.urandom(100), b"\n", b"bye"))
    plain, base = await asyncio.gather(
        connect(url, "--binary", "--wait", "forever", stdin=lines),
        connect(url, "--binary", "--base64", "--wait", "forever", stdin=encoded),
    )
    assert plain == (0, lines.decode("utf-8", "surrogateescape"), "")
    assert base == (0, encoded.decode(), "")


async def test_input_that_is_not_what_it_should_be(serve):
    url = (await serve(echo)).ws_url
    runs = (connect(url, stdin=b"a\n\xff\n"), connect(url, "--binary", "--base64", stdin=b"AAAA\n?\n"))
    (one, _, text), (two, _, base) = await asyncio.gather(*runs)
    assert (one, two) == (1, 1)
    assert text == "flowserve: error: line 2 of the input is not UTF-8; with --binary it can be sent\n"
    assert base.startswith("flowserve: error: line 2 of the input is not base64: ")


async def test_input_from_a_file_and_a_reader_that_has_had_enough(serve, tmp_path):
    """Neither is a pipe that an event loop can watch; the end of `head` ends it, with no word."""
    server = await serve(echo)
    (tmp_path / "input").write_text("word\n" * 100_000)
    script = '"$0" -m flowserve connect "$1" < "$2" | head -n 2'
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", script, sys.executable, server.ws_url, str(tmp_path / "input")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert await within(process.communicate(), 30) == (b"word\nword\n", b"")


async def test_the_server_ends_it_while_there_is_more_input(stage, serve):
    server = await serve(stage)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flowserve", "connect", server.ws_url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    act = await stage.next()
    await act.accept()
    await act.send_text("bye")
    await act.close(4001, "\x1bno\nmore")
    act.leave()
    assert process.stdout is not None
    assert process.stderr is not None
    assert await within(process.stdout.read()) == b"bye\n"
    told = await within(process.stderr.read())
    assert told == b"flowserve: error: the server closed the WebSocket: 4001 (\\x1bno more)\n"
    assert await within(process.wait()) == 1
    assert process.stdin is not None
    process.stdin.close()


async def test_other_ends(serve):
    server = await serve(echo)
    too_big = connect(server.ws_url, "--max-size", "1kB", "--no-compression", stdin=b"x" * 1001)

    async def away(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1001})

    going_away = connect((await serve(away)).ws_url, "--wait", "forever")
    (big, _, told), away_run = await asyncio.gather(too_big, going_away)
    assert big == 1
    assert told.startswith("flowserve: error: closed, for what the server sent: ")
    assert told.endswith(" (--max-size)\n")
    assert away_run == (0, "", "")


@pytest.mark.parametrize(("code", "status"), [(1000, 0), (1001, 0), (1011, 1), (4000, 1)])
async def test_the_status_tells_how_the_server_closed(stage, serve, code, status):
    server = await serve(stage)
    running = asyncio.ensure_future(connect(server.ws_url, "--wait", "forever"))
    act = await stage.next()
    await act.accept()
    await act.close(code)
    act.leave()
    told = f"flowserve: error: the server closed the WebSocket: {code}\n" if status else ""
    assert await within(running) == (status, "", told)


# Before


async def test_a_certificate_that_nobody_knows(serve, tmp_path):
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    status, out, err = await connect((await serve(echo, ssl_certfile=str(tmp_path / "server.pem"))).ws_url)
    assert (status, out) == (1, "")
    assert err.startswith("flowserve: error: the certificate of 127.0.0.1 is not trusted: ")
    assert err.endswith("; name its authority with --ca-file, or use --insecure\n")
    assert err.count("\n") == 1


async def test_a_refusal_is_one_line():
    wanted = "flowserve: error: can't connect to ws://127.0.0.1:1/: Connection refused; is the server running?\n"
    assert await connect("ws://127.0.0.1:1") == (1, "", wanted)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("http://a",), "'http://a' should begin with ws:// or wss://, e.g. ws://127.0.0.1:8000/"),
        (
            ("ws://a", "--wait", "long"),
            "'long' is not a duration; write a number of seconds or e.g. 20s, 500ms, 2m, or",
        ),
        (("wss://a", "--ca-file", "/no"), "--ca-file: can't read certificates from /no: No such file or directory"),
        (("ws://a", "--no-such"), "No such option"),
        ((), "Missing argument 'URL'"),
    ],
)
def test_wrong_usage_is_one_line(args, words):
    run = CliRunner().invoke(main, ["connect", *args])
    assert (run.exit_code, run.stdout) == (2, "")
    assert run.stderr.startswith("flowserve: error: ")
    assert run.stderr.count("\n") == 1
    assert words in run.stderr


# In a terminal


@pytest.fixture
def terminal(tmp_path):
    """`terminal(url)`: the command in a terminal."""
    opened = []

    def start(*args, **options):
        opened.append(Terminal("connect", *args, XDG_STATE_HOME=str(tmp_path / "state"), **options))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


async def test_a_conversation(serve, terminal, tmp_path):
    server = await serve(echo)
    (tmp_path / "file").write_bytes(bytes(range(60)))
    shown = terminal(server.ws_url, "--subprotocol", "chat")
    await shown.shows(f"connected to {server.ws_url}/ (chat); /help names the commands")
    for typed, words in (
        ("hello", "< hello"),
        ("//ping", "< /ping"),
        ("/ping", "pong after "),
        ("/binary 00ff 2a", "<* 00 ff 2a (3 bytes)"),
        (f"/binary @{tmp_path / 'file'}", "2e 2f ... (60 bytes)"),
        ("/binary xyz", "'xyz' is not hexadecimal; write e.g. /binary 00ff 2a, or /binary @FILE"),
        ("/binary @/no/such", "No such file or directory"),
        ("/nonsense", "there is no /nonsense; /help names the commands, // sends a slash"),
        ("/close 1005", "'1005' is not a code to close with"),
        ("/help", "Ctrl-D closes with 1000"),
        ("/close 4002 so long", "closed: 4002"),
    ):
        shown.type(typed + "\r")
        await shown.shows(words)
    assert await shown.end() == 0
    (history,) = (tmp_path / "state" / "flowserve").iterdir()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "+hello\n" in history.read_text()
    assert "\x1b[0;32mhello" in shown.raw, "in green"
    again = terminal(server.ws_url)
    await again.shows(">")
    await again.press("\x10", "/close 4002 so long")  # Ctrl-P
    again.type("\x03")
    assert await again.end() == 130


async def test_tab_completes_commands_and_files(serve, terminal, tmp_path):
    server = await serve(echo)
    (tmp_path / "message.bin").write_bytes(b"\1\2\3")
    shown = terminal(server.ws_url)
    await shown.shows(">")
    shown.type("/pi\t\r")
    await shown.shows("pong after ")
    shown.type(f"/bin\t@{tmp_path}/mess\t\r")
    await shown.shows("<* 01 02 03 (3 bytes)")
    shown.type("/\t\t")
    await shown.shows("/help")
    await shown.press("\x15a\tb/p\t\r", "< ab/p")  # text is no command; the list leaves the prompt after a while
    shown.type("/clo\t4000\r")
    await shown.shows("closed: 4000")
    assert await shown.end() == 0


async def test_what_comes_is_shown_above_the_prompt_until_the_end(stage, serve, terminal):
    server = await serve(stage)
    shown = terminal(server.ws_url, NO_COLOR="1")
    act = await stage.next()
    await act.accept()
    await shown.shows(">")
    await act.send_text("\x1b]0;title\x07 first\nsecond")
    await shown.shows("< \\x1b]0;title\\x07 first\n  second")
    await shown.shows(">")
    await act.send_text("x" * 70_000)
    await shown.shows("xxx... (70,000 characters)")
    await act.close(4000, "over")
    act.leave()
    await shown.shows("flowserve: error: the server closed the WebSocket: 4000 (over)")
    assert await shown.end() == 1
    assert "\x1b[0;3" not in shown.raw, "no colours"


async def test_keys_that_end_it(stage, serve, terminal):
    server = await serve(stage)
    for key, status in (("\x04", 0), ("\x03", 130)):
        shown = terminal(server.ws_url)
        act = await stage.next()
        await act.accept()
        await shown.shows(">")
        shown.type(key)
        assert await act.disconnected() == {"type": "websocket.disconnect", "code": 1000, "reason": ""}
        act.leave()
        assert await shown.end() == status
        assert "Traceback" not in shown.text


async def test_a_second_interrupt_ends_it_at_once(terminal):
    """While the server does not answer the close, which would take ten seconds."""

    async def deaf(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        (key,) = re.findall(rb"(?i)^sec-websocket-key: (\S+)", head, re.MULTILINE)
        writer.write(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_key(key))
        while frame := await reader.read(100):
            frames.put_nowait(frame)
        writer.close()

    frames: asyncio.Queue[bytes] = asyncio.Queue()
    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    async with server:
        shown = terminal(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", piped=True)
        assert shown.process.stdin is not None
        shown.process.stdin.write(b"a\n")
        shown.process.stdin.flush()
        assert (await within(frames.get()))[:2] == b"\x81\x81"
        shown.interrupt()
        assert (await within(frames.get()))[:2] == b"\x88\x82"
        shown.interrupt()
        assert await shown.end() == 130
        assert shown.text == ""


async def test_without_prompt_toolkit(terminal):
    code = "import sys; sys.modules['prompt_toolkit'] = None; from flowserve.cli import main; main(sys.argv[1:])"
    shown = terminal("ws://127.0.0.1:1/", program=("-c", code))
    await shown.shows("flowserve: error: prompt-toolkit is missing; pip install prompt-toolkit, or pipe the input")
    assert await shown.end() == 1
