"""Behind proxies that speak the PROXY protocol (haproxy.org, proxy-protocol.txt)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import ssl
import tempfile
from ipaddress import IPv4Address, IPv6Address
from types import SimpleNamespace

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from support.helpers import TEXT, UPGRADE, Client, frame, hello, until, within
from support.requests import GET, scope_of

from flowserve.server.proxy_protocol import Header, bytes_missing, parse

CLIENT = "203.0.113.7"


def get(*lines: str) -> bytes:
    return GET[:-2] + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


# The header


SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
TCP4 = SIGNATURE + b"\x21\x11\x00\x0c" + b"\xcb\x00\x71\x07" + b"\xc0\x00\x02\x01" + b"\xdc\x04" + b"\x01\xbb"
TCP6 = SIGNATURE + b"\x21\x21\x00\x24" + IPv6Address("2001:db8::7").packed + IPv6Address("::1").packed + b"\0\x01\0\x02"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
UNIX = SIGNATURE + b"\x21\x31\x00\xd8" + b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")
V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"
KNOWN = Header("known", (CLIENT, 56324), ("192.0.2.1", 443))


def v2(first: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + bytes((first, family)) + len(rest).to_bytes(2, "big") + rest


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


ADDRESSES = TCP4[16:]
SSL_ON = tlv(0x20, b"\x01\x00\x00\x00\x00" + tlv(0x21, b"TLSv1.3"))


class Refused(Exception):
    """There is no header."""


def read(data: bytes, most: int = 65536) -> tuple[Header | None, bytes]:
    """The header at the begin of `data`, read at most so many bytes at a time, and what it leaves; None for a part."""
    got = b""
    try:
        while wanted := bytes_missing(got):
            piece = data[len(got) : len(got) + min(wanted, most)]
            if not piece:
                return None, b""
            got += piece
        return parse(got), data[len(got) :]
    except ValueError as error:
        raise Refused(str(error)) from None


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (V1, KNOWN),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Header("known", ("0.0.0.0", 0), ("0.0.0.0", 0))),
        (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Header("known", ("255.255.255.255", 65535), ("255.255.255.255", 65535)),
        ),
        (b"PROXY TCP6 :: :: 0 0\r\n", Header("known", ("::", 0), ("::", 0))),
        (b"PROXY TCP6 2001:DB8::7 ::1 1 2\r\n", Header("known", ("2001:db8::7", 1), ("::1", 2))),
        (
            b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
            Header("known", (":".join(["ffff"] * 8), 65535), (":".join(["ffff"] * 8), 65535)),
        ),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:c000:201 1 2\r\n", Header("known", (CLIENT, 1), ("192.0.2.1", 2))),
        (b"PROXY UNKNOWN\r\n", Header("unknown")),
        (b"PROXY UNKNOWN \r\n", Header("unknown")),
        (b"PROXY UNKNOWN " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", Header("unknown")),
        (b"PROXY UNKNOWN \x00 whatever\xff\r\n", Header("unknown")),
        (TCP4, KNOWN),
        (TCP6, Header("known", ("2001:db8::7", 1), ("::1", 2))),
        (v2(0x21, 0x12, ADDRESSES), KNOWN),
        (v2(0x21, 0x22, TCP6[16:]), Header("known", ("2001:db8::7", 1), ("::1", 2))),
        (
            v2(0x21, 0x21, IPv6Address("::ffff:203.0.113.7").packed + bytes(16) + b"\0\1\0\2"),
            Header("known", (CLIENT, 1), ("::", 2)),
        ),
        (UNIX, Header("known", None, ("/run/server", None))),
        (v2(0x21, 0x32, bytes(216)), Header("known")),
        (v2(0x21, 0x31, b"a" * 216), Header("known", None, ("a" * 108, None))),
        (LOCAL, Header("local")),
        (v2(0x20, 0x11, ADDRESSES), Header("local")),
        (v2(0x20, 0xFF, b"whatever"), Header("local")),
        (v2(0x21, 0x00, b""), Header("unknown")),
        (v2(0x21, 0x00, b"whatever"), Header("unknown")),
        (v2(0x21, 0x10, ADDRESSES), Header("unknown")),
        (v2(0x21, 0x01, ADDRESSES), Header("unknown")),
        (v2(0x21, 0x11, ADDRESSES + SSL_ON), KNOWN._replace(secure=True)),
        (
            v2(0x21, 0x11, ADDRESSES + tlv(1, b"h2") + tlv(4, b"") + SSL_ON + tlv(0xEA, b"x")),
            KNOWN._replace(secure=True),
        ),
        (v2(0x21, 0x11, ADDRESSES + tlv(0x20, b"\x06\x00\x00\x00\x00")), KNOWN),
        (v2(0x21, 0x11, ADDRESSES + tlv(0xEA, b"x" * 16000)), KNOWN),
    ],
)
def test_a_header(data, wanted):
    for tail in (b"", GET, b"\r\n", data):
        for most in (1, 7, 65536):
            assert read(data + tail, most) == (wanted, tail)
    for end in range(len(data)):
        assert read(data[:end]) == (None, b"")


@pytest.mark.parametrize(
    "data",
    [
        *(GET, UPGRADE, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00", b"\0", b"proxy TCP4 1"),
        *(
            b" PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        ),
        *(
            b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        ),
        *(
            b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        ),
        *(
            b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 256.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        ),
        *(
            b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 -2\r\n",
        ),
        *(
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rX",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n",
        ),
        *(b"PROXY TCP4 ::1 ::2 1 2\r\n", b"PROXY TCP4 1.2.3.4 ::2 1 2\r\n", b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n"),
        *(
            b"PROXY TCP6 ::1%lo ::2 1 2\r\n",
            b"PROXY TCP6 ::1::2 ::2 1 2\r\n",
            b"PROXY TCP6 12345:: ::2 1 2\r\n",
            b"PROXY TCP4 \r\n",
        ),
        *(
            b"PROXY UNKNOWN a\nb\r\n",
            b"PROXY UNKNOWN a\rb\r\n",
            b"PROXY UNKNOWNX\r\n",
            b"PROXY UNKNOW \r\n",
            b"PROXY \r\n\r\n\r\n\r\n",
        ),
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        b"PROXY UNKNOWN " + b"x" * 200,
        *(
            SIGNATURE + b"\x11\x11\0\0",
            SIGNATURE + b"\x31\x11\0\0",
            SIGNATURE + b"\x01\x11\0\0",
            v2(0x22, 0x11, ADDRESSES),
        ),
        *(v2(0x21, 0x41, ADDRESSES), v2(0x21, 0x13, ADDRESSES), v2(0x21, 0x11, ADDRESSES[:-1]), v2(0x21, 0x11, b"")),
        *(
            v2(0x21, 0x21, ADDRESSES),
            v2(0x21, 0x31, bytes(215)),
            v2(0x21, 0x11, ADDRESSES + b"\x04"),
            SIGNATURE[:5] + b"x",
        ),
        *(v2(0x21, 0x11, ADDRESSES + b"\x04\x00"), v2(0x21, 0x11, ADDRESSES + b"\x04\x00\x01")),
        v2(0x21, 0x11, ADDRESSES + tlv(0x20, b"\x01\x00\x00\x00")),
        SIGNATURE + b"\x21\x11\xff\xff",
        SIGNATURE + b"\x20\x00\x40\x00",
    ],
)
def test_what_is_no_header(data):
    for most in (1, 7, 65536):
        with pytest.raises(Refused, match=r"^[ -~]+$"):
            read(data, most)


_V4, _V6 = st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address)
_PORTS = st.integers(0, 65535)


@st.composite
def lines(draw) -> bytes:
    family, addresses = draw(st.sampled_from([("TCP4", _V4), ("TCP6", _V6)]))
    return f"PROXY {family} {draw(addresses)} {draw(addresses)} {draw(_PORTS)} {draw(_PORTS)}\r\n".encode()


_RESTS = st.lists(st.tuples(st.integers(0, 255), st.binary(min_size=5, max_size=30)), max_size=4).map(
    lambda found: b"".join(tlv(*each) for each in found)
)
_BINARY = st.one_of(
    st.tuples(st.just(0x11), st.binary(min_size=12, max_size=12)),
    st.tuples(st.just(0x21), st.binary(min_size=36, max_size=36)),
    st.tuples(st.just(0x31), st.binary(min_size=216, max_size=216)),
)
_HEADERS = st.one_of(lines(), st.builds(lambda start, rest: v2(0x21, start[0], start[1] + rest), _BINARY, _RESTS))


@given(_HEADERS, st.binary(max_size=40), st.integers(1, 60))
def test_one_chunk_equals_byte_by_byte(header, tail, most):
    """And what belongs to the client is never read."""
    whole = read(header + tail)
    assert whole[0] is not None
    assert whole[1] == tail
    assert read(header + tail, 1) == read(header + tail, most) == whole


def outcome(data: bytes, most: int) -> object:
    try:
        return read(data, most)
    except Refused:
        return Refused


@given(st.one_of(st.binary(max_size=60), st.tuples(_HEADERS, st.binary(max_size=3), st.integers(0, 50)).map(
    lambda t: t[0][: t[2]] + t[1] + t[0][t[2] + len(t[1]) :]
)), st.integers(1, 60))  # fmt: skip
def test_broken_headers_break_however_they_come(data, most):
    assert outcome(data, 1) == outcome(data, most) == outcome(data, 65536)


# Connections


@pytest.fixture
def proxied(serve):
    """`server = await proxied(app, **options)`"""

    def start(app, **options):
        return serve(app, proxy_protocol=True, **options)

    return start


@pytest.mark.both_loops
@pytest.mark.parametrize("header", [V1, TCP4], ids=["v1", "v2"])
async def test_the_client_of_a_header(proxied, stage, connect, logs, header):
    client = await connect(await proxied(stage))
    scope = await scope_of(stage, client, header + GET)
    assert scope["client"] == (CLIENT, 56324)
    assert scope["server"] == ("192.0.2.1", 443)
    assert scope["scheme"] == "http"
    assert logs.lines("flowserve.access")[0].startswith('203.0.113.7:56324 - "GET / HTTP/1.1" 200 ')
    assert (await scope_of(stage, client, GET))["client"] == (CLIENT, 56324)


@pytest.mark.both_loops
@pytest.mark.parametrize("header", [V1, TCP6], ids=["v1", "v2"])
async def test_byte_by_byte(proxied, stage, connect, header):
    client = await connect(await proxied(stage))
    await client.dribble(header)
    scope = await scope_of(stage, client, GET)
    assert scope["client"] in ((CLIENT, 56324), ("2001:db8::7", 1))


@pytest.mark.both_loops
async def test_a_websocket_all_in_one_segment(proxied, stage, connect):
    client = await connect(await proxied(stage))
    await client.raw(V1 + UPGRADE + frame(TEXT, b"hello"))
    act = await stage.next()
    assert act.scope["client"] == (CLIENT, 56324)
    await act.accept()
    assert (await client.head()).status == 101
    assert await act.receive() == {"type": "websocket.receive", "text": "hello"}
    await act.send_text("hello yourself")
    assert await client.message() == "hello yourself"
    client.leave()
    await act.disconnected()


async def test_the_proxys_own_connection(proxied, stage, connect):
    """LOCAL: the peer is the proxy, and is believed."""
    client = await connect(await proxied(stage))
    assert tuple((await scope_of(stage, client, LOCAL + GET))["client"]) == client.address
    assert (await scope_of(stage, client, get("X-Forwarded-For: 203.0.113.7")))["client"] == (CLIENT, 0)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(0x21, 0, b"")], ids=["v1", "v2"])
async def test_a_client_that_the_proxy_does_not_know(proxied, stage, connect, header):
    """It looks like the proxy, but is not believed: its fields are its own."""
    client = await connect(await proxied(stage))
    scope = await scope_of(stage, client, header + get("X-Forwarded-For: 6.6.6.6"))
    assert tuple(scope["client"]) == client.address


async def test_a_client_on_a_unix_socket_of_the_proxy(proxied, stage, connect):
    client = await connect(await proxied(stage))
    scope = await scope_of(stage, client, UNIX + get("X-Forwarded-For: 6.6.6.6"))
    assert scope["client"] is None
    assert scope["server"] == ("/run/server", None)


async def test_a_proxy_on_a_unix_socket(proxied, stage, connect):
    with tempfile.TemporaryDirectory() as folder:
        client = await connect(await proxied(stage, uds=f"{folder}/s"))
        assert (await scope_of(stage, client, TCP4 + GET))["client"] == (CLIENT, 56324)


async def test_a_client_that_spoke_tls_with_the_proxy(proxied, stage, connect):
    client = await connect(await proxied(stage))
    scope = await scope_of(stage, client, v2(0x21, 0x11, ADDRESSES + SSL_ON) + GET)
    assert scope["scheme"] == "https"
    assert "tls" not in scope.get("extensions", {})


@pytest.mark.parametrize(
    ("allowed", "wanted"),
    [
        ("127.0.0.1", (CLIENT, 56324)),
        ("*", (CLIENT, 56324)),  # whoever connects is a proxy, but not whoever connects to that
        ("127.0.0.1,203.0.113.0/24", ("6.6.6.6", 0)),
    ],
)
async def test_fields_of_the_client_of_a_header(proxied, stage, connect, allowed, wanted):
    """They are believed if it is a trusted proxy itself."""
    client = await connect(await proxied(stage, forwarded_allow_ips=allowed))
    assert (await scope_of(stage, client, V1 + get("X-Forwarded-For: 6.6.6.6")))["client"] == wanted


async def test_without_proxy_headers_no_fields_are_believed(proxied, stage, connect):
    client = await connect(await proxied(stage, proxy_headers=False, forwarded_allow_ips="127.0.0.1,203.0.113.7"))
    scope = await scope_of(stage, client, V1 + get("X-Forwarded-For: 6.6.6.6"))
    assert scope["client"] == (CLIENT, 56324)


async def ended(client: Client) -> None:
    """The server has ended the connection, and said nothing."""
    with contextlib.suppress(ConnectionError):
        assert await client.rest() == b""


@pytest.mark.both_loops
async def test_others_than_trusted_proxies_are_ended(proxied, stage, connect, logs):
    """They are told of once as a warning: who has forgotten to name his proxy sees it."""
    server = await proxied(stage, forwarded_allow_ips="10.0.0.1", log_level="debug")
    logs.records.clear()
    for _ in range(3):
        client = await connect(server)
        with contextlib.suppress(ConnectionError):
            await client.raw(V1 + GET)
        await ended(client)
    assert stage.acts == []
    warnings = logs.lines(level=30)
    assert len(warnings) == 1
    assert "--forwarded-allow-ips" in warnings[0]
    assert server.server._context.refusals == {"proxy_protocol": 3}
    await until(lambda: not server.server._context.live)


@pytest.fixture
def debug(logs):
    logging.getLogger("flowserve").setLevel(logging.DEBUG)
    return logs


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "data",
    [
        GET,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n" + GET,
        b"PROXY \r\n" * 20,
    ],
    ids=["http", "tls", "malformed", "nonsense"],
)
async def test_without_a_header_it_ends(proxied, stage, connect, debug, data):
    server = await proxied(stage)
    debug.records.clear()
    client = await connect(server)
    await client.raw(data)
    await ended(client)
    assert stage.acts == []
    assert len(debug.lines()) == 1
    assert "PROXY header" in debug.lines()[0]
    assert server.server._context.refusals == {"proxy_protocol": 1}
    await until(lambda: not server.server._context.live)


@pytest.mark.both_loops
@pytest.mark.parametrize("begun", [b"", V1[:20], TCP4[:20]])
async def test_a_header_that_does_not_come(proxied, stage, connect, debug, begun):
    server = await proxied(stage, timeout_header=0.2)
    debug.records.clear()
    client = await connect(server)
    await client.raw(begun)
    await ended(client)
    assert len(debug.lines()) == 1
    assert "took too long" in debug.lines()[0]
    assert server.server._context.refusals == {"proxy_protocol": 1}


@pytest.mark.both_loops
async def test_a_proxy_that_leaves_before(proxied, stage, connect, debug):
    server = await proxied(stage)
    debug.records.clear()
    client = await connect(server)
    await client.raw(V1[:20])
    await until(lambda: len(server.server._context.live) == 1)
    client.half_close()
    await ended(client)
    await until(lambda: not server.server._context.live)
    assert len(debug.lines()) == 1


@pytest.mark.both_loops
async def test_shutdown_while_headers_are_awaited(proxied, stage, connect):
    server = await proxied(stage, timeout_graceful_shutdown=5)
    client = await connect(server)
    await client.raw(V1[:20])
    await until(lambda: len(server.server._context.live) == 1)
    await within(server.server.shutdown())
    await ended(client)


# With TLS


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return SimpleNamespace(both=str(folder / "both.pem"), trusting=context)


class TLS:
    """A TLS client in literal segments, over a connection that is there already."""

    def __init__(self, client: Client, context: ssl.SSLContext) -> None:
        self.client = client
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def more(self) -> None:
        data = await within(self.client.reader.read(65536))
        if not data:
            raise ConnectionResetError("the server has hung up")
        self.incoming.write(data)

    async def handshake(self, before: bytes) -> None:
        """All but the last flight of the handshake, with `before` in the same segment as the first."""
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self.client.raw(before + self.outgoing.read())
                before = b""
                await self.more()

    async def send(self, data: bytes) -> None:
        """Send `data`, in one segment with what is left of the handshake."""
        self.tls.write(data)
        await self.client.raw(self.outgoing.read())

    async def until(self, end: bytes) -> bytes:
        """Read up to `end`."""
        got = b""
        while not got.endswith(end):
            try:
                got += self.tls.read(65536)
            except ssl.SSLWantReadError:
                await self.more()
        return got


@pytest.mark.both_loops
@pytest.mark.parametrize("header", [V1, TCP4], ids=["v1", "v2"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_header_comes_before_tls(proxied, stage, connect, files, header, version):
    """In one segment with the first bytes of TLS, and the request in one segment with its last."""
    server = await proxied(stage, ssl_certfile=files.both, ssl_version_min="1.2")
    files.trusting.maximum_version = version
    client = TLS(await connect(server), files.trusting)
    await client.handshake(header)
    await client.send(GET)
    act = await stage.next()
    assert act.scope["client"] == (CLIENT, 56324)
    assert act.scope["server"] == ("192.0.2.1", 443)
    assert act.scope["scheme"] == "https"
    assert act.scope["extensions"]["tls"]["tls_version"] == int(version)
    await act.answer(b"hello")
    assert (await client.until(b"hello")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.both_loops
async def test_wss_behind_a_header_that_comes_byte_by_byte(proxied, stage, connect, files):
    server = await proxied(stage, ssl_certfile=files.both)
    plain = await connect(server)
    await plain.dribble(V1)
    client = TLS(plain, files.trusting)
    await client.handshake(b"")
    await client.send(UPGRADE + frame(TEXT, b"hello"))
    act = await stage.next()
    assert act.scope["scheme"] == "wss"
    assert act.scope["client"] == (CLIENT, 56324)
    await act.accept()
    assert await act.receive() == {"type": "websocket.receive", "text": "hello"}
    await act.send_text("hello yourself")
    await client.until(b"hello yourself")
    plain.leave()
    await act.disconnected()


@pytest.mark.both_loops
async def test_plain_http_behind_the_header(proxied, stage, connect, files):
    client = await connect(await proxied(stage, ssl_certfile=files.both))
    await client.raw(V1 + GET)
    response = await client.response()
    assert response.status == 400
    assert b"https://" in response.body


@pytest.mark.both_loops
@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x00\x05nonsense" * 20, b"\x16\x03\x01", b""], ids=["bad", "part", "none"]
)
async def test_a_tls_handshake_that_fails_or_does_not_end(proxied, connect, files, data):
    server = await proxied(hello, ssl_certfile=files.both, ssl_handshake_timeout=0.2)
    client = await connect(server)
    await client.raw(TCP4 + data)
    with contextlib.suppress(ConnectionError):
        await client.rest()  # perhaps an alert
    await until(lambda: not server.server._context.live)
    other = TLS(await connect(server), files.trusting)
    await other.handshake(LOCAL)
    await other.send(GET)
    await other.until(b"hello")


@pytest.mark.both_loops
async def test_who_leaves_in_the_tls_handshake(proxied, stage, connect, files):
    server = await proxied(stage, ssl_certfile=files.both)
    client = await connect(server)
    await client.raw(TCP4 + b"\x16\x03\x01")
    await until(lambda: len(server.server._context.live) == 1)
    client.reset()
    await until(lambda: not server.server._context.live)


@pytest.mark.both_loops
async def test_shutdown_in_the_tls_handshake(proxied, stage, connect, files):
    server = await proxied(stage, ssl_certfile=files.both, timeout_graceful_shutdown=5)
    client = await connect(server)
    await client.raw(TCP4 + b"\x16\x03\x01")
    await until(lambda: len(server.server._context.live) == 1)
    await within(server.server.shutdown())
    with contextlib.suppress(ConnectionError):
        await client.rest()


# The command line


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_from_the_command_line(command, loop):
    running = await command("support.helpers:hello", "--proxy-protocol", "--loop", loop)
    reader, writer = await within(asyncio.open_connection(*running.address))
    writer.write(V1 + GET)
    assert (await within(reader.readline())).startswith(b"HTTP/1.1 200 ")
    writer.close()
    running.signal(15)
    status, out, _ = await running.wait()
    assert status == 0
    assert '203.0.113.7:56324 - "GET / HTTP/1.1" 200' in out


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_curl_speaks_it(proxied, stage, files, secure):
    """A sender that others have written."""
    server = await proxied(stage, **({"ssl_certfile": files.both} if secure else {}))
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--max-time", "20", "--haproxy-protocol", "--insecure", f"{server.url}/"),
        stdout=asyncio.subprocess.PIPE,
    )
    act = await stage.next()
    assert act.scope["scheme"] == server.scheme
    assert act.scope["client"][0] == "127.0.0.1"
    assert act.scope["server"] == server.address
    await act.answer(b"hello")
    out, _ = await within(process.communicate())
    assert out == b"hello"
