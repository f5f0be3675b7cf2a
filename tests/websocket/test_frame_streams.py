"""A stream of frames gives the same however it is cut into chunks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.connections import CLIENT, byte_by_byte, connection, output, split
from support.frame_streams import bodies, controls, ends, messages_in_fragments, outcome
from support.helpers import close_payload, frame


@given(
    items=st.lists(messages_in_fragments() | controls, max_size=5),
    end=ends,
    tail=st.sampled_from(
        [
            b"",
            frame(1, b"behind"),
            frame(8, b"\x03\xe8"),
            frame(9) + frame(8) + frame(1, b"x"),
            b"\xff" * 9,
            frame(8, close_payload(1001, "going")) + frame(8, close_payload(1000)),
            frame(9, b"y" * 20)[:-2] + frame(8, close_payload(1001, "going")),
            frame(8, close_payload(1001, "go" * 60))[:-1],
            frame(8, close_payload(1001) + bytes(124)),
        ]
    ),
    cuts=st.lists(st.integers(0, 2**16), max_size=10),
)
@settings(max_examples=300, deadline=None)
def test_one_chunk_equals_any_others(items: list[bytes], end: bytes, tail: bytes, cuts: list[int]) -> None:
    wire = b"".join(items) + end + tail
    expected = outcome([wire])
    assert outcome(split(wire, cuts)) == expected
    assert outcome(byte_by_byte(wire)) == expected


@given(
    items=st.lists(messages_in_fragments() | controls, max_size=8),
    end=ends,
    cuts=st.lists(st.integers(0, 2**16), max_size=3),
    allowance=st.integers(1, 2000),
)
@settings(deadline=None)
def test_what_is_decoded_in_parts_equals_the_whole(
    items: list[bytes], end: bytes, cuts: list[int], allowance: int
) -> None:
    wire = b"".join(items) + end
    assert outcome(split(wire, cuts), allowance=allowance) == outcome([wire])


@given(
    fragments=st.lists(bodies, min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 2**16), max_size=10),
    broken=st.none() | st.tuples(st.integers(0, 2**16), st.integers(1, 255)),
    allowance=st.integers(1, 4000),
)
def test_one_chunk_equals_any_others_compressed(
    fragments: list[tuple[int, bytes]], cuts: list[int], broken: tuple[int, int] | None, allowance: int
) -> None:
    client = connection(CLIENT, deflate=True)
    for opcode, body in fragments:
        if opcode == 1:
            client.send_text(body.decode())
        else:
            client.send_binary(body)
    whole = bytearray(output(client))
    if broken is not None:
        whole[broken[0] % len(whole)] ^= broken[1]
    wire = bytes(whole)
    expected, cut, bytewise = (outcome(chunks, True) for chunks in ([wire], split(wire, cuts), byte_by_byte(wire)))
    assert outcome(split(wire, cuts), True, allowance=allowance) == cut
    if broken is None:
        assert expected.messages == [body.decode() if opcode == 1 else body for opcode, body in fragments]
        assert expected == cut == bytewise
    else:  # which of several errors is found first depends on how much is there to be inflated
        for each in (cut, bytewise):
            assert (each.messages, each.output, each.ended) == (expected.messages, expected.output, expected.ended)
