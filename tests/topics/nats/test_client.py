"""The short way of messages through nats-py's client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import nats.errors as nats_errors
import pytest
from support.helpers import until, within
from support.nats_server import NATSServer, nats_needed

from flowserve.topics.nats.client import Received, ShortClient


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (None, {}),
        (b"NATS/1.0\r\nA: 1\r\nB-C:  x:y \r\n\r\n", {"A": "1", "B-C": "x:y"}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503", "Description": ""}),
        (b"NATS/1.0 404 No Messages\r\nA: 1\r\n\r\n", {"Status": "404", "Description": "No Messages", "A": "1"}),
        (b"NATS/1.0\r\nA: \xff\r\n\r\n", {"A": "�"}),
    ],
)
def test_headers(raw: bytes | None, headers: dict[str, str]) -> None:
    assert Received("s", b"", raw).headers == headers


async def client_of(server: NATSServer, errors: list[Exception]) -> ShortClient:
    async def report(error: Exception) -> None:
        errors.append(error)

    client = ShortClient()
    await client.connect(server.url, allow_reconnect=False, error_cb=report)
    return client


@nats_needed
async def test_messages_come_in_order_and_with_headers(nats: NATSServer) -> None:
    client = await client_of(nats, [])
    got: list[Received] = []
    await client.listen("a.*", got.append)
    for number in range(100):
        client.send("a.b", "reply", b"%d" % number, f"Number: {number}\r\n" if number % 2 else "")
    await until(lambda: len(got) == 100)
    assert [each.data for each in got] == [b"%d" % number for number in range(100)]
    assert [each.headers for each in got[:2]] == [{}, {"Number": "1"}]
    assert got[0].subject == "a.b"
    await client.close()


@nats_needed
async def test_an_error_of_who_is_called_is_reported_and_ends_nothing(nats: NATSServer) -> None:
    errors: list[Exception] = []
    client = await client_of(nats, errors)
    got: list[bytes] = []

    def take(message: Received) -> None:
        got.append(message.data)
        if message.data == b"bad":
            raise ValueError("as it is bad")

    await client.listen("a", take)
    for data in (b"bad", b"good"):
        client.send("a", "", data)
    await until(lambda: len(got) == 2)
    assert [str(error) for error in errors] == ["as it is bad"]
    await client.close()


@nats_needed
async def test_what_cannot_be_sent(nats: NATSServer) -> None:
    client = await client_of(nats, [])
    with pytest.raises(nats_errors.MaxPayloadError):
        client.send("a", "", bytes(client.max_payload + 1))
    await within(client.close())
    with pytest.raises(nats_errors.ConnectionClosedError):
        client.send("a", "", b"")


def parser_of(got: list[Received]) -> tuple[ShortClient, Any]:
    async def callback(message: Any) -> None: ...

    callback.take = got.append  # type: ignore[attr-defined]
    client = ShortClient()
    client._subs[7] = SimpleNamespace(_cb=callback)  # type: ignore[assignment]
    return client, client._ps


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_what_comes_in_pieces(size: int) -> None:
    got: list[Received] = []
    _, parser = parser_of(got)
    stream = b"MSG a 7 3\r\nx\r\n\r\nPONG\r\nMSG b 7 reply 0\r\n\r\nHMSG c 7 19 21\r\nNATS/1.0\r\nNo: 1\r\n\r\nhi\r\n"
    stream += b"+OK\r\nMSG nobody 8 1\r\n.\r\nHMSG d 7 reply 12 12\r\nNATS/1.0\r\n\r\n\r\n"
    for at in range(0, len(stream), size):
        await parser.parse(stream[at : at + size])
    assert [(each.subject, each.data) for each in got] == [("a", b"x\r\n"), ("b", b""), ("c", b"hi"), ("d", b"")]
    assert [each.headers for each in got] == [{}, {}, {"No": "1"}, {}]
    assert not parser.buf


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_what_is_expected(size: int) -> None:
    """Whole messages are passed as matches, all others to who is subscribed, in order."""
    got: list[Any] = []
    client, parser = parser_of(got)
    client.expect("in.box", rb'\{"seq": ?(\d+)\}', lambda match: got.append((match[1], match[4])))
    stream = b'MSG in.box.1 7 9\r\n{"seq":5}\r\nMSG a 7 1\r\nx\r\nMSG in.box.22 7  10\r\n{"seq": 6}\r\n'
    stream += b'MSG in.box.3 7 reply 9\r\n{"seq":7}\r\nMSG in.box.x 7 9\r\n{"seq":8}\r\n'
    stream += b'MSG in.box.4 7 3\r\nno.\r\nMSG inxbox.5 7 9\r\n{"seq":9}\r\n'
    for at in range(0, len(stream), size):
        await parser.parse(stream[at : at + size])
    seen = [each if isinstance(each, tuple) else (each.subject, each.data) for each in got]
    assert seen == [
        *((b"1", b"5"), ("a", b"x"), (b"22", b"6")),
        *(("in.box.3", b'{"seq":7}'), ("in.box.x", b'{"seq":8}'), ("in.box.4", b"no."), ("inxbox.5", b'{"seq":9}')),
    ]
    assert not parser.buf


async def test_what_is_expected_but_not_as_long_as_it_says() -> None:
    got: list[Any] = []
    client, parser = parser_of([])
    client.expect("in.box", rb"x+", got.append)
    await parser.parse(b"MSG in.box.1 7 20\r\nxxxxx\r\n")
    assert got == []
    assert parser.buf


@nats_needed
async def test_an_error_of_who_expects_is_reported_and_ends_nothing(nats: NATSServer) -> None:
    errors: list[Exception] = []
    client = await client_of(nats, errors)
    got: list[bytes] = []

    def take(match: Any) -> None:
        got.append(match[1])
        raise ValueError(f"number {int(match[1])}")

    client.expect("a", rb"[a-z]*", take)
    await client.listen("a.*", lambda message: None)
    for number in (1, 2):
        client.send(f"a.{number}", "", b"good")
    await until(lambda: len(errors) == 2)
    assert got == [b"1", b"2"]
    assert [str(error) for error in errors] == ["number 1", "number 2"]
    await client.close()


@pytest.mark.parametrize("line", [b"MSG a 7", b"MSG a x 1", b"MSG a 7 -5", b"HMSG a 7 9 5", b"HMSG a 7 5"])
async def test_what_is_no_message(line: bytes) -> None:
    _, parser = parser_of([])
    with pytest.raises(nats_errors.ProtocolError):
        await parser.parse(line + b"\r\nxxxxxxxxx\r\n")
