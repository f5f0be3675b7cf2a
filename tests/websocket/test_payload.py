"""Masking (RFC 6455 section 5.3), in the module that runs and in its source as plain Python."""

from __future__ import annotations

import gc
import tracemalloc
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowserve
from flowserve.websocket import payload as running


def load_source() -> ModuleType:
    """The same module out of its .py file, whatever is compiled beside it."""
    source = Path(flowserve.__file__).parent / "websocket" / "payload.py"
    loader = SourceFileLoader("flowserve_mask_as_source", str(source))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


source = load_source()
each_branch = pytest.mark.parametrize("mask", [running, source], ids=["running", "source"])


def by_the_rfc(payload: bytes, key: bytes) -> bytes:
    """transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4)."""
    return bytes(octet ^ key[i % 4] for i, octet in enumerate(payload))


def test_the_source_runs_as_plain_python() -> None:
    assert source.COMPILED is False
    assert source.__file__.endswith("payload.py")


@each_branch
def test_hello(mask: ModuleType) -> None:
    """The masked frame of RFC 6455 section 5.7."""
    assert mask.apply_mask(b"Hello", 0, 5, b"\x37\xfa\x21\x3d") == b"\x7f\x9f\x4d\x51\x58"
    assert mask.apply_mask(b"\x7f\x9f\x4d\x51\x58", 0, 5, b"\x37\xfa\x21\x3d") == b"Hello"


@each_branch
def test_the_first_byte_of_the_mask_belongs_to_the_start(mask: ModuleType) -> None:
    assert mask.apply_mask(b"..Hello..", 2, 7, b"\x37\xfa\x21\x3d") == b"\x7f\x9f\x4d\x51\x58"
    assert mask.apply_mask(b"\0" * 6, 1, 6, b"\x01\x02\x03\x04") == b"\x01\x02\x03\x04\x01"


@each_branch
def test_the_mask_may_stand_anywhere(mask: ModuleType) -> None:
    assert mask.apply_mask(b"Hello", 0, 5, b"..\x37\xfa\x21\x3d..", 2) == b"\x7f\x9f\x4d\x51\x58"


@each_branch
def test_a_payload_behind_its_header(mask: ModuleType) -> None:
    for head, payload in ((b"", b""), (b"ab", b""), (b"", b"c"), (b"ab", b"c" * 100)):
        assert mask.join(head, payload) == head + payload


@each_branch
def test_ascii_behind_its_header(mask: ModuleType) -> None:
    for head, text in ((b"", ""), (b"ab", ""), (b"", "c"), (b"ab", "c" * 100)):
        assert mask.join_ascii(head, text) == head + text.encode()


@each_branch
def test_text_of_every_length(mask: ModuleType) -> None:
    key = b"\xa5\x5a\xff\x01"
    for size in range(270):
        for text in ("a" * size, "a" * (size - 1) + "é", "é" + "a" * (size - 1), "€" * (size // 3)):
            payload = text.encode()
            data = b".." + by_the_rfc(payload, key) + b".."
            assert mask.unmask_text(data, 2, 2 + len(payload), b"." + key, 1) == text


@each_branch
def test_text_of_one_character_is_the_shared_object(mask: ModuleType) -> None:
    for octet in range(128):
        assert mask.unmask_text(bytes((octet,)), 0, 1, bytes(4), 0) is chr(octet)


@each_branch
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"aaaaaaaaaaaaaaaaaaaa\xed\xa0\x80"])
def test_text_that_is_not_utf_8(mask: ModuleType, bad: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        mask.unmask_text(bad, 0, len(bad), bytes(4), 0)


@each_branch
@pytest.mark.parametrize(("start", "end", "at"), [(-1, 3, 0), (3, 2, 0), (0, 6, 0), (0, 5, 1), (0, 5, -1)])
def test_text_that_is_not_there(mask: ModuleType, start: int, end: int, at: int) -> None:
    with pytest.raises(ValueError, match="not there"):
        mask.unmask_text(b"Hello", start, end, bytes(4), at)


@each_branch
def test_nothing_is_nothing(mask: ModuleType) -> None:
    assert mask.apply_mask(b"", 0, 0, b"\x37\xfa\x21\x3d") == b""
    assert mask.apply_mask(b"Hello", 5, 5, b"\x37\xfa\x21\x3d") == b""


@each_branch
def test_single_bytes_are_objects_of_their_own(mask: ModuleType) -> None:
    """CPython shares the bytes objects of length 1: none of them may be written into."""
    for octet in range(256):
        assert mask.apply_mask(bytes((octet,)), 0, 1, b"\xff\0\0\0") == bytes((octet ^ 0xFF,))
    assert [bytes((octet,))[0] for octet in range(256)] == list(range(256))


@each_branch
def test_a_head_stands_before_it(mask: ModuleType) -> None:
    key = b"\x37\xfa\x21\x3d"
    for size in (0, 1, 5, 64, 130):
        data = b".." + bytes(size)
        for head in (b"", b"\x81\x85" + key, bytes(14)):
            assert mask.apply_mask(data, 2, 2 + size, key, 0, head) == head + by_the_rfc(bytes(size), key)


@each_branch
def test_every_length_around_the_strides(mask: ModuleType) -> None:
    data = bytes(range(256)) * 2
    key = b"\xa5\x5a\xff\x01"
    for size in range(270):
        for start in range(5):
            assert mask.apply_mask(data, start, start + size, key) == by_the_rfc(data[start : start + size], key)


@each_branch
def test_the_input_is_left_alone(mask: ModuleType) -> None:
    data = bytes(1000)
    mask.apply_mask(data, 0, 1000, b"\xff\xff\xff\xff")
    assert data == b"\0" * 1000


keys = st.binary(min_size=4, max_size=4)


@given(data=st.binary(max_size=2000), key=keys, bounds=st.tuples(st.integers(0, 2000), st.integers(0, 2000)))
def test_both_branches_say_what_the_rfc_says(data: bytes, key: bytes, bounds: tuple[int, int]) -> None:
    start, end = sorted(min(bound, len(data)) for bound in bounds)
    expected = by_the_rfc(data[start:end], key)
    assert running.apply_mask(data, start, end, key) == expected
    assert source.apply_mask(data, start, end, key) == expected


@given(data=st.binary(max_size=500), key=keys)
def test_twice_is_the_original(data: bytes, key: bytes) -> None:
    for mask in (running, source):
        masked = mask.apply_mask(data, 0, len(data), key)
        assert mask.apply_mask(masked, 0, len(data), key) == data


# A store for what comes in pieces

KEY = b"\x37\xfa\x21\x3d"


def gathered(mask: ModuleType, payload: bytes, cuts: list[int], text: bool, key: bytes, views: list[bool]) -> Any:
    """A store that `payload` has come into, in pieces: copied into it, or written into its room."""
    store = mask.PayloadBuffer(len(payload), text, 0)
    wire = by_the_rfc(payload, key) if key else payload
    bounds = [0, *sorted(cut % (len(payload) + 1) for cut in cuts), len(payload)]
    for number, (start, end) in enumerate(pairwise(bounds)):
        turned = key[start % 4 :] + key[: start % 4]
        if views[number % len(views)]:
            while start < end:
                room = store.get_buffer()
                size = min(len(room), end - start)
                room[:size] = wire[start : start + size]
                store.unmask(size, turned, 0)
                start += size
                turned = turned[size % 4 :] + turned[: size % 4]
                del room
        else:
            store.put(b"." + wire, start + 1, end + 1, b".." + turned if turned else turned, 2)
    assert store.filled == store.size == len(payload)
    return store


@each_branch
@given(
    payload=st.binary(min_size=1, max_size=300) | st.binary(min_size=4000, max_size=40_000),
    cuts=st.lists(st.integers(0, 2**16), max_size=5),
    key=st.sampled_from([b"", KEY]),
    views=st.lists(st.booleans(), min_size=1, max_size=3),
)
@settings(deadline=None)
def test_a_store_gathers_bytes(
    mask: ModuleType, payload: bytes, cuts: list[int], key: bytes, views: list[bool]
) -> None:
    store = gathered(mask, payload, cuts, False, key, views)
    assert store.ascii is payload.isascii()
    assert store.contents() == payload
    assert store.message() == payload
    assert type(store.message()) is bytes


@each_branch
@given(
    payload=st.text(st.characters(max_codepoint=127), min_size=1, max_size=300),
    cuts=st.lists(st.integers(0, 2**16), max_size=5),
    key=st.sampled_from([b"", KEY]),
    views=st.lists(st.booleans(), min_size=1, max_size=3),
)
def test_a_store_gathers_text(mask: ModuleType, payload: str, cuts: list[int], key: bytes, views: list[bool]) -> None:
    store = gathered(mask, payload.encode(), cuts, True, key, views)
    assert store.ascii
    text = store.message()
    assert type(text) is str
    assert text == payload
    assert {payload: 1}[text] == 1  # it has the hash of its characters
    assert text + "!" == payload + "!"


@each_branch
@pytest.mark.parametrize("at", [0, 1, 63, 64, 65, 127, 128, 199])
def test_a_store_finds_each_byte_that_is_not_ascii(mask: ModuleType, at: int) -> None:
    payload = bytearray(b"x" * 200)
    payload[at] = 0x80
    store = gathered(mask, bytes(payload), [], True, KEY, [False])
    assert not store.ascii
    assert store.contents() == bytes(payload)


@each_branch
def test_a_store_has_no_room_on_a_headers_word(mask: ModuleType) -> None:
    """From socket-flow's defects: memory for a payload of which nothing has come."""
    tracemalloc.start()
    try:
        store = mask.PayloadBuffer(1 << 40, False, 0)
        assert tracemalloc.get_traced_memory()[1] < 2048
        for _ in range(100):
            store.put(bytes(1000), 0, 1000, b"", 0)
        assert tracemalloc.get_traced_memory()[0] < 16 * 100_000
    finally:
        tracemalloc.stop()


@each_branch
def test_a_stores_room_ends_with_the_payload(mask: ModuleType) -> None:
    store = mask.PayloadBuffer(100_000, True, 90_000)
    store.put(b"a" * 90_000, 0, 90_000, b"", 0)
    assert len(store.get_buffer()) == 10_000
    with pytest.raises(ValueError, match="assignment"):
        store.get_buffer()[:] = b"b" * 10_001


@each_branch
def test_a_view_outlives_its_store(mask: ModuleType) -> None:
    """As when a transport still reads into it."""
    store = mask.PayloadBuffer(100_000, True, 100_000)
    room = store.get_buffer()
    del store
    gc.collect()
    room[:] = b"z" * 100_000
    assert bytes(room) == b"z" * 100_000


@each_branch
def test_a_text_as_bytes_outlives_it(mask: ModuleType) -> None:
    text = "".join(["An ASCII text. "] * 10_000)
    octets = mask.text_bytes(text)
    expected = text.encode()
    del text
    gc.collect()
    assert len(octets) == len(expected)
    assert octets == expected
    assert b"".join([b"head", octets]) == b"head" + expected
    with pytest.raises(TypeError):
        octets[0] = 65


# What is not there


@each_branch
@pytest.mark.parametrize(
    ("start", "end", "key", "at"),
    [
        *((-1, 2, b"abcd", 0), (2, 1, b"abcd", 0), (0, 6, b"abcd", 0), (0, 5, b"abc", 0), (0, 5, b"abcd", 1)),
        *((0, 5, b"abcdefgh", -1), (0, 2**62, b"abcd", 0), (0, 5, b"", 0)),
    ],
)
def test_a_part_or_a_mask_that_is_not_there(mask: ModuleType, start: int, end: int, key: bytes, at: int) -> None:
    with pytest.raises(ValueError, match="not there"):
        mask.apply_mask(b"hello", start, end, key, at, b"head")


@each_branch
def test_none_is_not_bytes(mask: ModuleType) -> None:
    for head, payload in ((None, b""), (b"", None)):
        with pytest.raises(TypeError):
            mask.join(head, payload)


@each_branch
@pytest.mark.parametrize(("start", "end"), [(-1, 1), (2, 1), (0, 12), (0, 11), (2**62, 2**62 + 1)])
def test_a_store_takes_no_more_than_is_there_and_missing(mask: ModuleType, start: int, end: int) -> None:
    store = mask.PayloadBuffer(10, False, 10)
    with pytest.raises(ValueError, match="more than"):
        store.put(b"hello world", start, end, b"", 0)
    assert store.contents() == b""


@each_branch
@pytest.mark.parametrize(
    ("size", "key", "at"), [(-1, b"", 0), (11, b"", 0), (2**62, b"", 0), (5, b"abc", 0), (5, b"abcd", 1)]
)
def test_a_store_settles_no_more_than_it_has_room_for(mask: ModuleType, size: int, key: bytes, at: int) -> None:
    store = mask.PayloadBuffer(10, False, 10)
    with pytest.raises(ValueError, match=r"not there|more than"):
        store.unmask(size, key, at)
    with pytest.raises(ValueError, match=r"not there|more than"):
        store.put(b"hello world", 0, size, key, at)
    assert store.filled == 0


@each_branch
def test_a_store_is_given_whole_or_not_at_all(mask: ModuleType) -> None:
    store = mask.PayloadBuffer(5, True, 5)
    with pytest.raises(ValueError, match="not all"):
        store.message()
    store.put(b"h\xc3\xa9lo", 0, 5, b"", 0)
    with pytest.raises(ValueError, match="not all"):
        store.message()
    assert store.contents() == b"h\xc3\xa9lo"
