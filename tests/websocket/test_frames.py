"""The base framing protocol (RFC 6455 section 5), byte for byte, in both roles."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.helpers import frame, masked

from flowserve.errors import ProtocolError
from flowserve.websocket.constants import Opcode, Role
from flowserve.websocket.frames import FrameDecoder, encode_frame, encode_header

KEY = b"\x37\xfa\x21\x3d"  # of the examples in RFC 6455 section 5.7
SERVER, CLIENT = Role.SERVER, Role.CLIENT
SIZES = [0, 1, 2, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537, 70000]


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool = True
    rsv1: bool = False


class Piece(NamedTuple):
    payload: bytes
    size: int
    first: bool
    last: bool


def take_pieces(decoder: FrameDecoder, data: bytes) -> list[Piece]:
    decoder.feed(data)
    pieces = []
    while decoder.next():
        pieces.append(Piece(decoder.payload(), decoder.size, decoder.first, decoder.last))
    return pieces


def decode(role: int, chunks: Iterable[bytes], allow_rsv1: bool = False) -> list[Frame]:
    """The complete frames in `chunks`, put together from their pieces."""
    decoder = FrameDecoder(role, allow_rsv1)
    frames: list[Frame] = []
    payload = b""
    between = True
    for chunk in chunks:
        decoder.feed(chunk)
        while decoder.next():
            assert decoder.first is between
            between = decoder.last
            payload += decoder.payload()
            if decoder.last:
                assert len(payload) == decoder.size
                frames.append(Frame(decoder.opcode, payload, decoder.fin, decoder.rsv1))
                payload = b""
    return frames


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(bounds)]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


# The examples of RFC 6455 section 5.7


@pytest.mark.parametrize(
    ("role", "wire", "frames"),
    [
        (CLIENT, b"\x81\x05\x48\x65\x6c\x6c\x6f", [Frame(1, b"Hello")]),
        (SERVER, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", [Frame(1, b"Hello")]),
        (CLIENT, b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f", [Frame(1, b"Hel", fin=False), Frame(0, b"lo")]),
        (CLIENT, b"\x89\x05\x48\x65\x6c\x6c\x6f", [Frame(9, b"Hello")]),
        (SERVER, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", [Frame(10, b"Hello")]),
        (CLIENT, b"\x82\x7e\x01\x00" + bytes(256), [Frame(2, bytes(256))]),
        (CLIENT, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + bytes(65536), [Frame(2, bytes(65536))]),
    ],
)
def test_decodes_the_examples(role: int, wire: bytes, frames: list[Frame]) -> None:
    assert decode(role, [wire]) == frames
    assert decode(role, byte_by_byte(wire)) == frames


@pytest.mark.parametrize(
    ("encoded", "wire"),
    [
        (encode_frame(Opcode.TEXT, b"Hello"), b"\x81\x05\x48\x65\x6c\x6c\x6f"),
        (encode_frame(Opcode.TEXT, b"Hello", KEY), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        (encode_frame(Opcode.TEXT, b"Hel", fin=False), b"\x01\x03\x48\x65\x6c"),
        (encode_frame(Opcode.CONTINUATION, b"lo"), b"\x80\x02\x6c\x6f"),
        (encode_frame(Opcode.PING, b"Hello"), b"\x89\x05\x48\x65\x6c\x6c\x6f"),
        (encode_frame(Opcode.PONG, b"Hello", KEY), b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        (encode_frame(Opcode.CLOSE, b""), b"\x88\x00"),
        (encode_frame(Opcode.CLOSE, b"", KEY), b"\x88\x80\x37\xfa\x21\x3d"),
        (encode_frame(Opcode.TEXT, b"abc", rsv1=True), b"\xc1\x03abc"),  # RFC 7692 section 6
        (encode_frame(Opcode.BINARY, b"", rsv1=True, fin=False), b"\x42\x00"),
    ],
)
def test_encodes_the_examples(encoded: bytes, wire: bytes) -> None:
    assert encoded == wire


@pytest.mark.parametrize(
    ("size", "server", "client"),
    [
        (0, b"\x82\x00", b"\x82\x80"),
        (125, b"\x82\x7d", b"\x82\xfd"),
        (126, b"\x82\x7e\x00\x7e", b"\x82\xfe\x00\x7e"),
        (127, b"\x82\x7e\x00\x7f", b"\x82\xfe\x00\x7f"),
        (65535, b"\x82\x7e\xff\xff", b"\x82\xfe\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", b"\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00"),
        (2**40 + 5, b"\x82\x7f\x00\x00\x01\x00\x00\x00\x00\x05", b"\x82\xff\x00\x00\x01\x00\x00\x00\x00\x05"),
    ],
)
def test_writes_the_length_in_its_shortest_form(size: int, server: bytes, client: bytes) -> None:
    assert encode_header(Opcode.BINARY, size) == server
    assert encode_header(Opcode.BINARY, size, KEY) == client + KEY
    if size < 100_000:
        assert encode_frame(Opcode.BINARY, bytes(size)) == server + bytes(size)
        assert encode_frame(Opcode.BINARY, bytes(size), KEY) == client + KEY + masked(bytes(size), KEY)


@pytest.mark.parametrize("opcode", [0, 1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_round_trip_of_every_length_form(opcode: int, size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    for role, key in ((CLIENT, b""), (SERVER, KEY)):
        for fin in (True, False):
            for rsv1 in (False, True):
                wire = encode_frame(opcode, payload, key, rsv1 and opcode != 0, fin)
                expected = Frame(opcode, payload, fin, rsv1 and opcode != 0)
                assert decode(role, [wire], allow_rsv1=True) == [expected]
                if size <= 256:
                    assert decode(role, byte_by_byte(wire), allow_rsv1=True) == [expected]
                else:
                    assert decode(role, split(wire, [1, 3, 9, 13, 14, 15, size // 2]), allow_rsv1=True) == [expected]


@given(
    role=st.sampled_from([SERVER, CLIENT]),
    frames=st.lists(
        st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=300), st.booleans())
        | st.tuples(st.sampled_from([8, 9, 10]), st.binary(max_size=125), st.just(True)),
        max_size=6,
    ),
    key=st.binary(min_size=4, max_size=4),
    cuts=st.lists(st.integers(0, 2**16), max_size=12),
)
def test_a_stream_of_frames_comes_back_however_it_is_cut(
    role: Role, frames: list[tuple[int, bytes, bool]], key: bytes, cuts: list[int]
) -> None:
    mask = key if role == SERVER else b""
    wire = b"".join(encode_frame(opcode, payload, mask, fin=fin) for opcode, payload, fin in frames)
    expected = [Frame(opcode, payload, fin) for opcode, payload, fin in frames]
    assert decode(role, [wire]) == expected
    assert decode(role, split(wire, cuts)) == expected
    assert decode(role, byte_by_byte(wire)) == expected


# What the pieces tell


@pytest.mark.parametrize("role", [SERVER, CLIENT])
@pytest.mark.parametrize("text", ["", "a", "größe 価格 😀", "x" * 70000])
def test_text_of_a_piece(role: Role, text: str) -> None:
    decoder = FrameDecoder(role, False)
    wire = encode_frame(Opcode.TEXT, text.encode(), KEY if role == SERVER else b"")
    decoder.feed(wire + wire[:1])
    assert decoder.next()
    assert decoder.text() == text


@pytest.mark.parametrize("role", [SERVER, CLIENT])
def test_text_of_a_piece_that_is_none(role: Role) -> None:
    decoder = FrameDecoder(role, False)
    decoder.feed(encode_frame(Opcode.TEXT, b"ab\xff", KEY if role == SERVER else b""))
    assert decoder.next()
    with pytest.raises(UnicodeDecodeError):
        decoder.text()


def test_a_header_is_told_of_before_its_payload_has_come() -> None:
    decoder = FrameDecoder(SERVER, False)
    assert take_pieces(decoder, b"\x82\xfe\x03\xe8" + KEY) == [Piece(b"", 1000, True, False)]
    assert (decoder.opcode, decoder.fin, decoder.rsv1) == (2, True, False)
    assert take_pieces(decoder, masked(b"abcde", KEY)) == [Piece(b"abcde", 1000, False, False)]


@pytest.mark.parametrize("size", [2**31, 2**32 + 1, 2**62, 2**63 - 1])
def test_the_largest_lengths_are_told_of_whole(size: int) -> None:
    decoder = FrameDecoder(SERVER, False)
    assert take_pieces(decoder, b"\x82\xff" + size.to_bytes(8, "big") + KEY) == [Piece(b"", size, True, False)]
    assert take_pieces(decoder, masked(b"abc", KEY)) == [Piece(b"abc", size, False, False)]


def test_the_mask_goes_on_from_piece_to_piece() -> None:
    payload = bytes(range(200))
    wire = frame(2, payload, mask=KEY)
    for step in (1, 2, 3, 4, 5, 7, 64, 67):
        chunks = [wire[at : at + step] for at in range(0, len(wire), step)]
        assert decode(SERVER, chunks) == [Frame(2, payload)]


def test_what_was_read_is_not_kept_for_its_mask() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        decoders = [FrameDecoder(SERVER, False) for _ in range(10)]
        for decoder in decoders:
            take_pieces(decoder, frame(2, bytes(50_000), mask=KEY))
        assert tracemalloc.get_traced_memory()[0] - before < 50_000
    finally:
        tracemalloc.stop()


def test_the_end_of_a_frame_and_the_next_one_in_one_chunk() -> None:
    decoder = FrameDecoder(CLIENT, False)
    assert take_pieces(decoder, b"\x82\x04ab") == [Piece(b"ab", 4, True, False)]
    assert take_pieces(decoder, b"cd\x81\x01x\x82\x03y") == [
        Piece(b"cd", 4, False, True),
        Piece(b"x", 1, True, True),
        Piece(b"y", 3, True, False),
    ]


@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_a_control_frame_comes_whole(opcode: int) -> None:
    decoder = FrameDecoder(SERVER, False)
    wire = frame(opcode, b"x" * 125)
    for octet in byte_by_byte(wire[:-1]):
        assert take_pieces(decoder, octet) == []
    assert take_pieces(decoder, wire[-1:]) == [Piece(b"x" * 125, 125, True, True)]


# Rules


def wrong(role: int, wire: bytes, allow_rsv1: bool = False) -> str:
    """The reason for which `wire` is refused, in one chunk and byte by byte, and not a byte before its last one."""
    reasons = set()
    for chunks in ([wire], byte_by_byte(wire)):
        decoder = FrameDecoder(role, allow_rsv1)
        for chunk in chunks[:-1]:
            assert take_pieces(decoder, chunk) == []
        decoder.feed(chunks[-1])
        with pytest.raises(ProtocolError) as caught:
            decoder.next()
        assert caught.value.close_code == 1002
        reasons.add(caught.value.reason)
    assert len(reasons) == 1
    return reasons.pop()


@pytest.mark.parametrize(
    ("wire", "allow_rsv1"),
    [
        (b"\xc1\x80", False),  # RSV1 without an extension
        (b"\xc2\x80", False),
        (b"\xa1\x80", False),  # RSV2
        (b"\x91\x80", False),  # RSV3
        (b"\xf1\x80", False),
        (b"\xa1\x80", True),
        (b"\x91\x80", True),
        (b"\xe2\x80", True),  # RSV1 is allowed, RSV2 is not
        (b"\xc0\x80", True),  # RFC 7692 section 6.1: not on a continuation
        (b"\x40\x80", True),
        (b"\xc8\x80", True),  # RFC 7692 section 6.1: not on a control frame
        (b"\xc9\x80", True),
        (b"\xca\x80", True),
    ],
)
def test_reserved_bits(wire: bytes, allow_rsv1: bool) -> None:
    assert wrong(SERVER, wire, allow_rsv1) == "reserved bits set"


@pytest.mark.parametrize("first", [0xC1, 0xC2, 0x41, 0x42])
def test_rsv1_begins_a_compressed_message(first: int) -> None:
    expected = [Frame(first & 0x0F, b"\0", first >= 0x80, True)]
    assert decode(SERVER, [bytes((first, 0x81)) + KEY + KEY[:1]], allow_rsv1=True) == expected


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("fin", [0x80, 0x00])
def test_reserved_opcodes(opcode: int, fin: int) -> None:
    assert wrong(SERVER, bytes((fin | opcode, 0x80))) == f"reserved opcode {opcode}"
    assert wrong(CLIENT, bytes((fin | opcode, 0x00))) == f"reserved opcode {opcode}"


@pytest.mark.parametrize("first", [0x80, 0x81, 0x82, 0x01, 0x88, 0x89, 0x8A])
def test_a_client_masks_and_a_server_does_not(first: int) -> None:
    """RFC 6455 section 5.1."""
    assert wrong(SERVER, bytes((first, 0x00))) == "frame not masked"
    assert wrong(SERVER, bytes((first, 0x7D))) == "frame not masked"
    assert wrong(CLIENT, bytes((first, 0x80))) == "frame masked by a server"


@pytest.mark.parametrize("opcode", [8, 9, 10])
def test_control_frames(opcode: int) -> None:
    """RFC 6455 section 5.5."""
    assert wrong(SERVER, bytes((opcode, 0x80))) == "fragmented control frame"
    assert wrong(SERVER, bytes((0x80 | opcode, 0xFE))) == "control frame longer than 125 bytes"
    assert wrong(SERVER, bytes((0x80 | opcode, 0xFF))) == "control frame longer than 125 bytes"
    assert wrong(CLIENT, bytes((0x80 | opcode, 0x7E))) == "control frame longer than 125 bytes"
    assert decode(SERVER, [frame(opcode, b"x" * 125)]) == [Frame(opcode, b"x" * 125)]


@pytest.mark.parametrize(
    "length",
    [
        b"\x7e\x00\x00",
        b"\x7e\x00\x01",
        b"\x7e\x00\x7d",  # 125
        b"\x7f\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x7f\x00\x00\x00\x00\x00\x00\x00\x7d",
        b"\x7f\x00\x00\x00\x00\x00\x00\x00\x7e",
        b"\x7f\x00\x00\x00\x00\x00\x00\xff\xff",  # 65535
    ],
)
def test_the_length_must_have_its_shortest_form(length: bytes) -> None:
    """RFC 6455 section 5.2: 'the minimal number of bytes MUST be used to encode the length'."""
    assert wrong(CLIENT, b"\x82" + length) == "length not in its shortest form"
    assert wrong(SERVER, b"\x82" + bytes((length[0] | 0x80,)) + length[1:] + KEY) == "length not in its shortest form"


@pytest.mark.parametrize("size", [1 << 63, (1 << 63) | 5, (1 << 63) | 65536, (1 << 64) - 1])
def test_the_first_bit_of_a_64_bit_length_is_0(size: int) -> None:
    """RFC 6455 section 5.2: 'the most significant bit MUST be 0'."""
    assert wrong(CLIENT, b"\x82\x7f" + size.to_bytes(8, "big")) == "64-bit length with its first bit set"
    assert wrong(SERVER, b"\x82\xff" + size.to_bytes(8, "big") + KEY) == "64-bit length with its first bit set"


def test_a_lenient_decoder_goes_on_behind_a_bad_frame() -> None:
    bad = [
        b"\xf1\x80" + KEY,  # reserved bits
        b"\x83\x82" + KEY + b"xy",  # reserved opcode
        b"\x81\x02hi",  # not masked
        b"\x08\x80" + KEY,  # a close frame in fragments
        b"\x89\xfe\x00\x7e" + KEY + bytes(126),  # a long ping
        b"\x82\xfe\x00\x01" + KEY + b"z",  # length form
    ]
    close = frame(8, b"\x03\xe8")
    for wire in bad:
        for chunks in ([wire + close], byte_by_byte(wire + close)):
            decoder = FrameDecoder(SERVER, False)
            closes = []
            for chunk in chunks:
                decoder.feed(chunk)
                try:
                    more = decoder.next()
                except ProtocolError:
                    decoder.lenient = True
                    more = decoder.next()
                while more:
                    closes.append((decoder.opcode, decoder.last))
                    more = decoder.next()
            assert closes[-1] == (8, True), wire
            assert [last for _, last in closes].count(True) == 2, wire


@given(data=st.binary(max_size=200), role=st.sampled_from([SERVER, CLIENT]), cuts=st.lists(st.integers(0, 200)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_make_frames_or_a_protocol_error(data: bytes, role: Role, cuts: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> tuple[list[Frame], str]:
        decoder = FrameDecoder(role, True)
        frames: list[Frame] = []
        payload = b""
        try:
            for chunk in chunks:
                decoder.feed(chunk)
                while decoder.next():
                    payload += decoder.payload()
                    if decoder.last:
                        frames.append(Frame(decoder.opcode, payload, decoder.fin, decoder.rsv1))
                        payload = b""
        except ProtocolError as error:
            return frames, error.reason
        return frames, ""

    assert outcome([data]) == outcome(split(data, cuts)) == outcome(byte_by_byte(data))


# Cost, in bytes allocated by a step


def allocations(decoder: FrameDecoder, chunks: Iterable[bytes]) -> int:
    """The sum, over every call of the decoder, of the bytes that it had allocated at its peak."""
    total = 0
    tracemalloc.start()
    try:
        for chunk in chunks:
            more = True
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            decoder.feed(chunk)
            while more:
                more = decoder.next()
                if more:
                    decoder.payload()
                now, peak = tracemalloc.get_traced_memory()
                total += peak - before
                before = now
                tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    return total


@pytest.mark.parametrize("size", [1, 100])
def test_many_frames_in_one_chunk_cost_in_proportion(size: int) -> None:
    """The rest of a chunk must not be copied for each of its frames."""
    few, many = (allocations(FrameDecoder(SERVER, False), [frame(2, bytes(size)) * n]) for n in (500, 4000))
    assert many < 12 * few


def test_one_frame_in_many_chunks_costs_in_proportion() -> None:
    """Payload that was taken must not be copied again for each further byte."""

    def cost(n: int) -> int:
        return allocations(FrameDecoder(SERVER, False), byte_by_byte(frame(2, bytes(n))))

    assert cost(8000) < 12 * cost(1000)


def test_payload_that_was_taken_is_not_kept() -> None:
    decoder = FrameDecoder(SERVER, False)
    take_pieces(decoder, b"\x82\xff" + (1 << 40).to_bytes(8, "big") + KEY)
    tracemalloc.start()
    try:
        for _ in range(64):
            take_pieces(decoder, bytes(65536))
        assert tracemalloc.get_traced_memory()[0] < 2 * 65536 + 4096
    finally:
        tracemalloc.stop()


# What is not there


@pytest.mark.parametrize("size", [-1, 3, 2**62])
def test_no_more_lands_than_is_missing(size: int) -> None:
    decoder = FrameDecoder(Role.CLIENT, False)
    decoder.feed(b"\x82\x05abc")
    assert decoder.next()
    assert decoder.missing == 2
    with pytest.raises(ValueError, match="missing"):
        decoder.buffer_updated(size)


@pytest.mark.parametrize("role", Role)
def test_a_piece_that_landed_is_in_a_buffer(role: Role) -> None:
    decoder = FrameDecoder(role, False)
    decoder.feed(b"\x82\x05abc" if role == Role.CLIENT else b"\x82\x85\0\0\0\0abc")
    assert decoder.next()
    assert not decoder.next()
    decoder.buffer_updated(2)
    assert decoder.next()
    for read in (decoder.payload, decoder.text):
        with pytest.raises(ValueError, match="in a PayloadBuffer"):
            read()


def test_no_piece_is_empty() -> None:
    decoder = FrameDecoder(Role.CLIENT, False)
    decoder.feed(b"\x82\x05hello")
    assert decoder.next()
    assert not decoder.next()
    assert decoder.payload() == b""
    decoder.feed(b"\x82")
    assert decoder.text() == ""


@pytest.mark.parametrize("opcode", [-1, 256, 2**20])
def test_an_opcode_out_of_range(opcode: int) -> None:
    for encode in (lambda: encode_frame(opcode, b"x"), lambda: encode_header(opcode, 1)):
        with pytest.raises(ValueError):
            encode()
