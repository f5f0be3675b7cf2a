"""Compression of messages (RFC 7692 sections 6 and 7.2), by every back end that is installed."""

from __future__ import annotations

import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.compression import (
    BACKENDS,
    MIB,
    SHARED,
    TAIL,
    TAKEOVER,
    agreed,
    codec,
    each_backend,
    each_context,
    finished,
    inflate,
    noise,
    pieces,
    prose,
    read_slowly,
    settings_strategy,
    sync_flushed,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate as TheirPerMessageDeflate
from websockets.frames import Frame, Opcode

from flowserve.errors import PayloadTooBig, ProtocolError
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateSettings, PerMessageDeflate

# Inflation: the examples of RFC 7692 section 7.2.3


@each_backend
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("f2 48 cd c9 c9 07 00", b"Hello"),  # 7.2.3.1, one compressed block
        ("00 05 00 fa ff 48 65 6c 6c 6f 00", b"Hello"),  # 7.2.3.3, no compression
        ("f3 48 cd c9 c9 07 00 00", b"Hello"),  # 7.2.3.4, a final block
        ("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", b"Hello"),  # 7.2.3.5, two blocks
        ("00", b""),  # 7.2.3.6
        ("02 00", b""),  # as isal writes it
        ("03 00 00", b""),
        ("f3 48 cd c9 c9 07 00 f3 48 cd c9 c9 07 00 00", b"HelloHello"),
        ("f3 48 cd c9 c9 07 00 f2 00 11 00 00", b"HelloHello"),  # looking back over a final block
    ],
)
@each_context
def test_inflates_the_examples(library, configured, payload, message):
    data = bytes.fromhex(payload)
    whole = codec(configured, library)
    for _ in range(3):
        assert inflate(whole, data, 100, True) == message
    by_byte = codec(configured, library)
    for _ in range(3):
        assert pieces(by_byte, data, 1) == message


@each_backend
def test_inflates_a_message_in_two_fragments(library):
    receiver = codec(SHARED, library)
    first = inflate(receiver, bytes.fromhex("f2 48 cd"), 5)
    assert first + inflate(receiver, bytes.fromhex("c9 c9 07 00"), 5 - len(first), True) == b"Hello"


@each_backend
def test_takeover_shares_the_window(library):
    """RFC 7692 section 7.2.3.2."""
    receiver = codec(TAKEOVER, library)
    assert inflate(receiver, bytes.fromhex("f2 48 cd c9 c9 07 00"), 5, True) == b"Hello"
    assert inflate(receiver, bytes.fromhex("f2 00 11 00 00"), 5, True) == b"Hello"


@each_backend
def test_shared_context_gives_no_peer_a_look_at_another_message(library):
    receiver = codec(SHARED, library)
    assert inflate(receiver, bytes.fromhex("f2 48 cd c9 c9 07 00"), 5, True) == b"Hello"
    for other in (receiver, codec(SHARED, library)):
        with pytest.raises(ProtocolError):
            inflate(other, bytes.fromhex("f2 00 11 00 00"), 5, True)


@each_backend
def test_a_final_block_keeps_the_window_of_earlier_messages(library):
    receiver = codec(TAKEOVER, library)
    first, second, third = noise(20000, 1), noise(5000, 2), noise(40000, 3)
    history = b""
    for message, size in (
        (b"", 3),
        (first, 20030),
        (second + first[-3000:], 5200),
        (first[:900], 100),
        (b"", 3),
        (second * 3, 1000),
        (third, 40060),
        (third[9000:], 1000),
    ):
        payload = finished(message, history[-32768:])
        assert len(payload) <= size
        assert inflate(receiver, payload[:7], MIB) + inflate(receiver, payload[7:], MIB, True) == message
        history += message


@each_backend
def test_a_final_block_may_come_late(library):
    receiver = codec(TAKEOVER, library)
    first, second = noise(2000, 1), noise(1000, 2)
    for message, payload in (
        (first, sync_flushed(first)),
        (first[:900] + second, finished(first[:900] + second, first)),
        (second[:500] + first[:400], finished(second[:500] + first[:400], first[:900] + second)),
    ):
        assert len(payload) < len(message) + 50
        assert inflate(receiver, payload, MIB, True) == message


@each_backend
def test_a_final_block_keeps_the_window_within_a_message(library):
    first, second = noise(70000, 5), noise(300, 6)
    payload = finished(first)[:-1] + finished(first[-30000:] + second, first[-32768:])
    assert len(payload) < 72000
    for size in (1, 70, 4096, 65536, 1 << 20):
        assert pieces(codec(SHARED, library), payload, size) == first + first[-30000:] + second


# Inflation: bounds


@each_backend
@each_context
@pytest.mark.parametrize("size", [0, 1, 100, 65535, 65536, 65537, 262143, 262144, 262145, 1_000_000])
def test_limit_is_exact(library, configured, size):
    for message in (bytes(size), noise(size)):
        payload = sync_flushed(message)
        assert inflate(codec(configured, library), payload, size, True) == message
        receiver = codec(configured, library)
        assert inflate(receiver, payload, size) + inflate(receiver, b"", 0, True) == message
        if size:
            with pytest.raises(PayloadTooBig):
                inflate(codec(configured, library), payload, size - 1, True)
            with pytest.raises(PayloadTooBig):
                inflate(codec(configured, library), payload, 0, True)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """1 MiB that inflates to 1 GiB."""
    stream = zlib.compressobj(9, wbits=-15)
    block = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    return block * 1024


def drain(receiver: PerMessageDeflate, payload: bytes, size: int, limit: int) -> None:
    for start in range(0, len(payload), size):
        limit -= len(inflate(receiver, payload[start : start + size], limit))


@each_backend
@each_context
@pytest.mark.parametrize("piece", [1000, 65536, 1 << 30])
def test_a_bomb_costs_no_more_than_the_limit(library, configured, bomb, piece):
    limit = 16 * MIB
    receiver = codec(configured, library)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooBig):
            drain(receiver, bomb, piece, limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit * 9 // 8 + 3 * MIB  # 9 / 8 is by how much the buffer grows ahead


@each_backend
@each_context
def test_final_blocks_without_end_are_refused(library, configured):
    empty = bytes.fromhex("01 00 00 ff ff")
    with pytest.raises(ProtocolError):
        inflate(codec(configured, library), empty * 200_000, MIB, True)
    receiver = codec(configured, library)
    for _ in range(3):  # but so many messages with some are fine
        assert inflate(receiver, empty * 1000 + b"\x00", MIB, True) == b""


@each_backend
@each_context
def test_the_smallest_final_blocks_are_passed_over(library, configured):
    receiver = codec(configured, library)
    text = bytes.fromhex("f2 48 cd c9 c9 07 00")  # Hello, without a final block
    assert inflate(receiver, text, MIB, True) == b"Hello"
    for _ in range(3):
        assert inflate(receiver, bytes.fromhex("03 00") * 200_000 + text, MIB, True) == b"Hello"


@each_backend
@each_context
def test_final_blocks_that_look_back_and_that_do_not(library, configured):
    """RFC 7692 section 7.2.3.4: each block may refer to what came before it in the message."""
    receiver = codec(configured, library)
    for _ in range(3):
        message, payload = bytearray(), bytearray()
        for i in range(200):
            piece = b"%d: Hello, Hello!" % (i // 3) if i % 3 else b"x"
            compressor = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=bytes(message[-32768:]) if i % 2 else b"\0")
            payload += compressor.compress(piece) + compressor.flush()
            message += piece
        payload += b"\x00"
        assert inflate(receiver, bytes(payload), MIB, True) == message
        assert inflate(receiver, bytes(payload[:1000]), MIB) + inflate(receiver, bytes(payload[1000:]), MIB, True) == (
            message
        )


@each_backend
@each_context
def test_a_piece_in_parts(library, configured):
    """No more comes out at once than is asked for."""
    sender, receiver = codec(configured, library), codec(configured, library)
    message = b"".join(b"%d Hello, Hello! " % i for i in range(5_000))
    payload = sender.compress(message)
    for most in (1000, 65536, len(message), len(message) + 1):
        left = len(message)
        out = [receiver.inflate(payload, left, True, most)]
        while receiver.unfinished:
            left -= len(out[-1])
            out.append(receiver.inflate_more(left, most))
        assert b"".join(out) == message
        assert max(map(len, out)) <= most
        payload = sender.compress(message)


@each_backend
@each_context
@pytest.mark.parametrize("read", [1, 7, 512])
def test_a_piece_of_which_little_is_read_at_once(library, configured, read):
    """Final blocks are among it, and blocks that refer to what was before them."""
    sender, receiver = zlib.compressobj(9, zlib.DEFLATED, -15), codec(configured, library)
    message = b"".join(b"%d Hello, Hello! " % i for i in range(1_000))
    payload = sender.compress(message) + sender.flush()
    again = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=message)
    payload += again.compress(message) + again.flush() + b"\x00"
    out = [receiver.inflate(payload, MIB, True, MIB, read)]
    while receiver.unfinished:
        out.append(receiver.inflate_more(MIB, MIB, read))
    assert b"".join(out) == message * 2
    assert len(out) >= len(payload) // read


@each_backend
@each_context
def test_takes_linear_time_on_empty_blocks(library, configured):
    payload = bytes.fromhex("00 00 00 ff ff") * 200_000 + b"\x00"
    assert inflate(codec(configured, library), payload, 0, True) == b""


# Inflation: broken streams


@each_backend
@each_context
@pytest.mark.parametrize(
    "payload",
    [
        b"\x06",  # a block of the reserved type
        b"\x07\x00",
        b"\x00\x05\x00\xfa\xfeHello\x00",  # LEN and NLEN that don't match
        b"\xf2\x00\x11\x00\x00",  # looking back to before the beginning
        b"\xff\xff\xff\xff\xff",
        b"Hello, not deflated at all",
    ],
)
def test_broken_data_is_a_protocol_error(library, configured, payload):
    with pytest.raises(ProtocolError) as caught:
        inflate(codec(configured, library), payload, MIB, True)
    assert caught.value.close_code == 1002
    with pytest.raises(ProtocolError):
        pieces(codec(configured, library), payload, 1)


@each_backend
def test_a_message_that_stops_short_is_a_protocol_error(library):
    """As far as can be known: some cuts make, with the four bytes that are put back, a message that is sound again."""
    payload = sync_flushed(prose(3000))
    assert len(payload) > 400
    refused = 0
    for cut in range(1, len(payload)):
        try:
            inflate(codec(SHARED, library), payload[:cut], MIB, True)
        except ProtocolError:
            refused += 1
    assert refused > len(payload) * 0.85
    for message in (
        sync_flushed(b"Hello")[:3],
        b"\x00\x05\x00\xfa\xffHe",
        b"\x00\x05",
        finished(b"Hello")[:-1],
        b"\x04",
    ):
        with pytest.raises(ProtocolError):
            inflate(codec(SHARED, library), message, MIB, True)


@each_backend
@each_context
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_piece_equals_byte_by_byte(library, configured, data):
    """For whatever the peer sends: sound, broken, cut, with final blocks; the same bytes, or an error."""
    blocks = st.one_of(
        st.binary(max_size=20),
        st.binary(max_size=300).map(sync_flushed),
        st.binary(max_size=300).map(lambda message: sync_flushed(message) + TAIL),
        st.binary(max_size=300).map(finished),
        st.binary(max_size=300).map(lambda message: finished(message)[:-1]),
        st.just(sync_flushed(bytes(2000)) + TAIL),
    )
    messages = data.draw(st.lists(st.lists(blocks, max_size=4).map(b"".join), max_size=3))
    limit = data.draw(st.sampled_from([0, 10, 1000, 5000]))
    whole, by_byte = (codec(configured, library) for _ in range(2))
    for message in messages:
        results: list[bytes | None] = []
        for receiver, size in ((whole, len(message) or 1), (by_byte, 1)):
            try:
                results.append(pieces(receiver, message, size, limit))
            except ProtocolError:  # too big or broken: one piece may be both, and which is seen first is zlib's affair
                results.append(None)
        assert results[0] == results[1]
        if results[0] is None:
            break


# Deflation


@each_backend
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_round_trip(library, data):
    """Any window bits, levels and splits, in both roles; read by zlib itself too, with no more window than agreed."""
    configured = data.draw(settings_strategy)
    server_bits, client_bits = data.draw(st.integers(9, 15)), data.draw(st.integers(8, 15))
    parameters = agreed(configured, server_bits, client_bits)
    server = PerMessageDeflate(configured, parameters, Role.SERVER, library)
    client = PerMessageDeflate(configured, parameters, Role.CLIENT, library)
    message = st.one_of(st.binary(max_size=200), st.integers(0, 40000).map(prose), st.integers(0, 9000).map(noise))
    strict = {
        id(sender): zlib.decompressobj(-bits) for sender, bits in ((server, server_bits), (client, max(client_bits, 9)))
    }
    for text in data.draw(st.lists(message, min_size=1, max_size=5)):
        for sender, receiver, bits in ((server, client, server_bits), (client, server, max(client_bits, 9))):
            payload = sender.compress(text)
            reader = zlib.decompressobj(-bits) if configured.context == "shared" else strict[id(sender)]
            assert b"".join(read_slowly(reader, payload + TAIL)) == text
            size = data.draw(st.sampled_from([1, 7, 1000, 100_000])) if len(payload) < 5000 else 997
            assert pieces(receiver, payload, size) == text


@each_backend
@each_context
def test_an_empty_message_is_one_byte(library, configured):
    """RFC 7692 section 7.2.3.6."""
    sender = codec(configured, library)
    assert sender.compress(b"") == b"\x00"
    assert sender.compress(b"x") != b"\x00"
    assert [sender.compress(b"") for _ in range(2)] == [b"\x00"] * 2


def test_hello():
    assert codec(SHARED, library=BACKENDS[0]).compress(b"Hello") == bytes.fromhex("f2 48 cd c9 c9 07 00")
    sender = codec(TAKEOVER, library=BACKENDS[0])
    assert sender.compress(b"Hello") == bytes.fromhex("f2 48 cd c9 c9 07 00")
    assert sender.compress(b"Hello") == bytes.fromhex("f2 00 11 00 00")


@each_backend
def test_shared_context_looks_back_at_no_other_message(library):
    """One compressor serves many connections: what it writes must not depend on what it wrote before."""
    sender = codec(SHARED, library)
    for size in (10, 1000, 100_000):
        message = noise(size)
        payloads = [sender.compress(message) for _ in range(3)]
        for payload in payloads:
            assert len(payload) >= size
            assert zlib.decompressobj(-15).decompress(payload + TAIL) == message


@each_backend
def test_takeover_compresses_better(library):
    message = noise(1000)
    sender = codec(TAKEOVER, library)
    assert len(sender.compress(message)) > 900
    assert len(sender.compress(message)) < 100


def test_a_window_of_8_bits_looks_back_at_nothing():
    """zlib can't do 8; a client that is told to may not refuse, so it only encodes literals."""
    parameters = agreed(TAKEOVER, client_bits=8)
    client = PerMessageDeflate(TAKEOVER, parameters, Role.CLIENT)
    server = PerMessageDeflate(TAKEOVER, parameters, Role.SERVER)
    message = b"abcabc" * 300
    for _ in range(3):
        payload = client.compress(message)
        assert 300 < len(payload) < len(message)
        assert inflate(server, payload, MIB, True) == message


@each_context
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_takes_any_kind_of_bytes(configured, kind):
    sender, receiver = codec(configured), codec(configured)
    for message in (b"Hello" * 100, noise(200_000)):
        payload = sender.compress(kind(message))
        assert type(payload) is bytes
        out = inflate(receiver, kind(payload[:100]), MIB) + inflate(receiver, kind(payload[100:]), MIB, True)
        assert type(out) is bytes
        assert out == message


def test_threshold():
    sender = codec(DeflateSettings(threshold=10))
    assert not sender.should_compress(b"x" * 9)
    assert sender.should_compress(b"x" * 10)


@each_backend
def test_threads_share_a_compressor(library):
    sender = codec(SHARED, library)
    messages = [prose(20_000, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        payloads = list(pool.map(sender.compress, messages))
    for message, payload in zip(messages, payloads, strict=True):
        assert inflate(codec(SHARED), payload, MIB, True) == message


@each_backend
def test_an_idle_connection_in_the_shared_context_costs_nothing(library):
    message, parameters = prose(2000), agreed(SHARED)
    payload = codec(SHARED, library).compress(message)
    count = 500
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        connections = []
        for _ in range(count):
            connection = PerMessageDeflate(SHARED, parameters, Role.SERVER, library)
            connection.compress(message)
            inflate(connection, payload[:50], MIB)
            inflate(connection, payload[50:], MIB, True)
            connections.append(connection)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len({id(connection.deflater) for connection in connections}) == 1
    assert (after - before) / count < 256


@each_backend
@each_context
def test_exchanges_messages_with_another_implementation(library, configured):
    parameters = agreed(configured, 12, 11)
    shared = configured.context == "shared"
    ours = PerMessageDeflate(configured, parameters, Role.SERVER, library)
    theirs = TheirPerMessageDeflate(shared, shared, 12, 11)
    for seed in range(20):
        message = prose(seed * seed * 40, seed)
        frame = theirs.encode(Frame(Opcode.TEXT, message))
        assert inflate(ours, bytes(frame.data), MIB, True) == message
        answer = theirs.decode(Frame(Opcode.TEXT, ours.compress(message), rsv1=True))
        assert bytes(answer.data) == message
