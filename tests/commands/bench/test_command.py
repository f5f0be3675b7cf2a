"""`flowserve bench`: on real servers, good ones and others."""

from __future__ import annotations

import asyncio
import json
import re
import resource

import pytest
import trustme
from click.testing import CliRunner
from support.helpers import echo, within
from support.terminal import Terminal, flowserve

from flowserve.cli import main


async def bench(*args: str) -> tuple[int, str, str]:
    """The command in a thread of this process: many of its own would take their time to start."""
    run = await within(asyncio.to_thread(CliRunner().invoke, main, ["bench", *args]))
    return run.exit_code, run.stdout, run.stderr


async def measure(*args: str) -> tuple[int, dict]:
    status, out, err = await bench(*args, "--json")
    assert err == ""
    return status, json.loads(out)


def scripted(act):
    """A server that accepts, and does with message number so and so of a connection what `act(number, event)` says:
    it gives the events to send."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        number = 0
        while (event := await receive())["type"] == "websocket.receive":
            number += 1
            for answer in act(number, {"type": "websocket.send", "text": event["text"]}):
                await send(answer)
                if answer["type"] == "websocket.close":
                    return

    return app


# On a good server


@pytest.fixture
def recorded():
    """An echo, and all the messages that it has received."""
    messages = []

    async def app(scope, receive, send):
        async def recording():
            event = await receive()
            if event["type"] == "websocket.receive":
                messages.append(event.get("text") or event.get("bytes"))
            return event

        await echo(scope, recording, send)

    return app, messages


async def test_every_message_comes_back(serve, recorded):
    app, messages = recorded
    server = await serve(app)
    status, told = await measure(server.ws_url, "-c", "3", "-n", "4", "--messages", "200")
    assert status == 0
    assert told["connections"] == {"opened": 3, "failed": {}, "closed": {}}
    assert told["messages"] == {
        "sent": 200,
        "received": 200,
        "echoed": 200,
        "wrong": 0,
        "unasked": 0,
        "missing": 0,
        "unsent": 0,
    }
    assert len(set(messages)) == len(messages) == 200
    assert {len(message) for message in messages} == {64}
    latency = told["latency"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"] < told["seconds"]
    assert latency["min"] <= latency["mean"] <= latency["max"]
    assert sum(row["count"] for row in told["histogram"]) == 200
    for each in ("messages", "sent", "received"):
        assert told[f"{each}_per_second"] == pytest.approx(200 / told["seconds"])
    for each in ("", "sent_", "received_"):
        assert told[f"{each}bytes_per_second"] == pytest.approx(64 * 200 / told["seconds"])
    assert told["handshake"]["max"] > 0


async def test_for_people(serve):
    server = await serve(echo)
    status, out, err = await flowserve("bench", server.ws_url, "-c", "2", "-d", "200ms", "-s", "1kB", "--binary")
    assert (status, err) == (0, ""), "no progress where no terminal is"
    lines = out.splitlines()
    assert lines[0] == f"{server.ws_url}/: binary messages of 1,000 bytes, 1 in flight on each connection"
    assert lines[2] == "connections  2 opened, 0 failed, 0 closed by the server"
    traffic = r"([\d,]+) messages, ([\d,]+/s), ([\d.]+) MB/s"
    sent = re.fullmatch(rf"sent         {traffic}, in 0\.[2-9]\d s", lines[3])
    received = re.fullmatch(rf"received     {traffic}", lines[4])
    found = re.fullmatch(r"echoes       ([\d,]+) right, 0 wrong, 0 missing; 0 other messages", lines[5])
    assert found, lines[5]
    assert sent, lines[3]
    assert received, lines[4]
    assert sent.groups() == received.groups()
    assert sent[1] == found[1]
    assert lines[7].split() == ["min", "mean", "p50", "p90", "p99", "p99.9", "max"]
    for line, name in ((lines[8], "handshake"), (lines[9], "latency")):
        assert re.fullmatch(rf"{name} +(\d[\d.]*(us|ms|s) *){{7}}", line)
    rows = [
        re.fullmatch(r" *[\d.]+ (us|ms|s) +([\d,]+) +[\d.]+%( [█▉▊▋▌▍▎▏]+)?", line)
        for line in lines[12:]
        if line[:1] == " "
    ]
    assert all(rows)
    assert sum(int(row[2].replace(",", "")) for row in rows) == int(found[1].replace(",", ""))


async def test_large_messages_compressed_through_tls(serve, recorded, tmp_path):
    app, messages = recorded
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    server = await serve(app, ssl_certfile=str(tmp_path / "server.pem"))
    options = ("-c", "2", "--messages", "10", "-s", "300kB", "--compression", "--ca-file", str(tmp_path / "ca.pem"))
    status, told = await measure(server.ws_url, *options)
    assert (status, told["messages"]["echoed"]) == (0, 10)
    assert {len(message) for message in messages} == {300_000}


async def test_at_a_rate(serve):
    server = await serve(echo)
    status, told = await measure(server.ws_url, "-c", "2", "--messages", "30", "--rate", "100")
    assert (status, told["messages"]["echoed"]) == (0, 30)
    assert told["seconds"] >= 0.29
    assert told["latency"]["p50"] < 0.2


async def test_latency_counts_from_when_a_message_was_to_be_sent(serve):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await asyncio.sleep(0.02)
            await send({**event, "type": "websocket.send"})

    server = await serve(app)
    status, told = await measure(server.ws_url, "-c", "1", "--messages", "20", "--rate", "1000")
    assert status == 0
    assert told["latency"]["min"] >= 0.019
    assert told["latency"]["max"] >= 0.36, "the last one waited for nineteen others"


# On others


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (lambda n, echo: [echo if n != 5 else {**echo, "text": echo["text"][:-1] + "!"}], {"wrong": 1, "echoed": 9}),
        (lambda n, echo: [echo, echo] if n == 5 else [echo], {"received": 11}),
        (lambda n, echo: [] if n == 10 else [echo], {"missing": 1, "echoed": 9, "received": 9}),
    ],
    ids=["changed", "twice", "lost"],
)
async def test_wrong_echoes(serve, act, seen):
    server = await serve(scripted(act))
    good = {"sent": 10, "received": 10, "echoed": 10, "wrong": 0, "unasked": 0, "missing": 0, "unsent": 0}
    options = ("-c", "1", "--messages", "10", "--timeout", "1s")
    status, told = await measure(server.ws_url, *options)
    counted = told["messages"]
    if seen == {"received": 11}:  # where the second one comes behind the next message it is taken for the echo of that
        assert counted["unasked"] + counted["wrong"] in range(1, 6)
        seen = seen | {name: counted[name] for name in ("unasked", "wrong", "echoed")}
    assert (status, counted) == (1, good | seen)


async def test_a_server_that_leaves_some_out(serve):
    """With several in flight the later ones are still known for what they are."""
    server = await serve(scripted(lambda n, echo: [] if n == 4 else [echo]))
    status, told = await measure(server.ws_url, "-c", "1", "-n", "3", "--messages", "30", "--timeout", "500ms")
    assert status == 1
    counted = {"sent": 30, "received": 29, "echoed": 29, "wrong": 0, "unasked": 0, "missing": 1, "unsent": 0}
    assert told["messages"] == counted


async def test_a_server_that_does_not_answer(serve):
    server = await serve(scripted(lambda n, echo: []))
    status, out, err = await bench(server.ws_url, "-c", "3", "-n", "2", "-d", "50ms", "--timeout", "500ms")
    assert (status, err) == (1, "")
    lines = out.splitlines()
    found = re.fullmatch(r"sent         6 messages, ([\d,]+)/s, 0\.\d\d MB/s, in ([\d.]+) s", lines[3])
    assert found, lines[3]
    assert float(found[2]) >= 0.5, "as long as it was waited for an answer"
    assert lines[4] == "received     0 messages, 0/s, 0.00 MB/s"
    assert lines[5] == "echoes       0 right, 0 wrong, 6 missing; 0 other messages"
    assert lines[-1] == "6 echoes did not come within --timeout 500ms: the server does not answer"


async def test_a_server_that_answers_something_else(serve):
    server = await serve(scripted(lambda n, echo: [{**echo, "text": "\xe9"}]))
    status, out, err = await bench(server.ws_url, "-c", "2", "--messages", "20")
    assert (status, err) == (1, "")
    assert re.search(r"^received     20 messages, [\d,]+/s, ", out, re.MULTILINE)
    assert "echoes       0 right, 20 wrong, 0 missing; 0 other messages\n" in out
    assert "no answer was an echo, and the latencies are those of other answers; the first: '\xe9' came, '0000" in out
    status, told = await measure(server.ws_url, "-c", "2", "--messages", "20")
    assert told["received_bytes_per_second"] == pytest.approx(40 / told["seconds"])


async def test_a_server_that_passes_on_what_one_sends_to_all(serve):
    everybody = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        everybody.append(send)
        while (event := await receive())["type"] == "websocket.receive":
            for each in everybody:
                await each({"type": "websocket.send", "text": event["text"]})
        everybody.remove(send)

    server = await serve(app)
    status, told = await measure(server.ws_url, "-c", "4", "--messages", "40")
    counted = told["messages"]
    assert (status, counted["sent"], counted["echoed"], counted["wrong"], counted["missing"]) == (1, 40, 40, 0, 0)
    assert counted["received"] == 40 + counted["unasked"]
    assert counted["unasked"] > 40
    _, out, _ = await bench(server.ws_url, "-c", "4", "--messages", "40")
    assert " messages answered nothing: the server passes on what one sends to all, or sends of its own accord\n" in out


async def test_wrong_echoes_for_people(serve):
    server = await serve(scripted(lambda n, echo: [{**echo, "text": "\x1b[2Jno"}] if n < 3 else []))
    status, out, err = await bench(server.ws_url, "-c", "1", "--messages", "3", "-s", "12", "--timeout", "500ms")
    assert (status, err) == (1, "")
    assert r"the first: '\x1b[2Jno' came, '000000000000' was sent" in out
    assert "1 echo did not come within --timeout 500ms\n" in out


async def test_closed_by_the_server(serve):
    close = {"type": "websocket.close", "code": 4000, "reason": "enough"}
    server = await serve(scripted(lambda n, echo: [echo] if n < 3 else [close]))
    status, told = await measure(server.ws_url, "-c", "2", "--messages", "100")
    assert (status, told["connections"]["closed"]) == (1, {"4000 (enough)": 2})
    assert told["messages"]["echoed"] == 4
    status, out, _ = await bench(server.ws_url, "-c", "2", "--messages", "100")
    assert status == 1
    assert "2 opened, 0 failed, 2 closed by the server" in out
    assert "2 closed: 4000 (enough)" in out
    assert "2 echoes did not come before the connection was closed" in out


async def test_some_connections_fail(serve):
    server = await serve(echo, ws_max_connections=2)
    status, told = await measure(server.ws_url, "-c", "4", "--messages", "10")
    assert (status, told["connections"]["opened"], told["messages"]["echoed"]) == (1, 2, 10)
    ((why, count),) = told["connections"]["failed"].items()
    assert count == 2
    assert why.startswith(f"{server.ws_url}/ answered 503 Service Unavailable")


async def test_nobody_is_there():
    wanted = "flowserve: error: can't connect to ws://127.0.0.1:1/: Connection refused; is the server running?\n"
    assert await flowserve("bench", "ws://127.0.0.1:1", "-c", "1000") == (1, "", wanted)


@pytest.mark.parametrize(
    "args",
    [
        ("ws://a/", "-c", "0"),
        ("ws://a/", "-d", "soon"),
        ("ws://a/", "-d", "1s", "--messages", "1"),
        ("ws://a/", "--rate", "-1"),
        ("127.0.0.1:1",),
    ],
)
def test_wrong_usage_is_one_line(args):
    run = CliRunner().invoke(main, ["bench", *args])
    assert (run.exit_code, run.stdout) == (2, "")
    assert run.stderr.startswith("flowserve: error: ")
    assert run.stderr.endswith("(see flowserve bench --help)\n")
    assert run.stderr.count("\n") == 1


def test_more_connections_than_files_can_be_open():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not 0 < hard < 1_000_000:
        pytest.skip("as many as one likes can be open here")
    run = CliRunner().invoke(main, ["bench", "ws://a/", "-c", str(hard)])
    assert run.exit_code == 2
    assert f"--connections {hard} takes more open files than the {hard} allowed here" in run.stderr


# In a terminal


async def test_progress_and_an_early_end(serve):
    server = await serve(echo)
    terminal = Terminal("bench", server.ws_url, "-c", "2", "-d", "1m", "--json", piped=True)
    try:
        await terminal.shows("opening connections: 0 of 2")
        await terminal.shows("/s, received ")
        await terminal.shows("/s, received ")
        terminal.interrupt()
        assert await terminal.end() == 130
        assert terminal.raw.endswith("\r\x1b[K"), "the line of progress is gone"
        assert terminal.process.stdout is not None
        told = json.loads(terminal.process.stdout.read())
        assert told["messages"]["echoed"] > 0
        assert told["messages"]["missing"] == 0
    finally:
        terminal.close()
