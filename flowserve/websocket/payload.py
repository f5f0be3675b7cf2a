# cython: language_level=3, annotation_typing=False, binding=False, boundscheck=False, wraparound=False
"""Operations on every byte of a payload: XOR masking (RFC 6455 section 5.3), joining it to its header, and receiving a
large one in place."""

from __future__ import annotations

import os
from typing import Any

COMPILED = not __file__.endswith(".py")

_POOL_SIZE = 4096  # random bytes per system call
_masks: list[bytes] = []
_NO_MASK = b"\0\0\0\0"
_GROWTH = 8  # capacity of a PayloadBuffer as a multiple of the bytes received
_MIN_CAPACITY = 4096  # bytes, once it grows


def new_mask() -> bytes:
    """Return a masking key from a strong source of entropy, as RFC 6455 section 5.3 requires."""
    if not _masks:
        data = os.urandom(_POOL_SIZE)
        pool = data
        for at in range(0, _POOL_SIZE, 4):
            _masks.append(pool[at : at + 4])  # when compiled, slicing the pointer creates no slice object
    return _masks.pop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_masks.clear)  # two processes must not use the same keys


def apply_mask(data: bytes, start: int, end: int, mask: bytes, at: int = 0, head: bytes = b"") -> bytes:
    """Return `head` followed by `data[start:end]` masked or, as this is its own inverse, unmasked (RFC 6455 section
    5.3).

    The masking key is the 4 bytes at `mask[at:]`; its first byte applies to `data[start]`. Raises ValueError unless
    `0 <= start <= end <= len(data)` and `0 <= at <= len(mask) - 4`.
    """
    _check(data, start, end, mask, at)
    size = end - start
    if COMPILED:
        # The pointers are declared in the .pxd. A test checks that this branch and the one below are equivalent.
        lead = len(head)
        result: bytes = new_bytes(lead + size)  # type: ignore[name-defined]  # noqa: F821
        front, source, target, key = head, data, result, mask
        copy(target, front, lead)  # type: ignore[name-defined]  # noqa: F821
        xor(target + lead, source + start, size, key + at)  # type: ignore[name-defined,operator]  # noqa: F821
        return result
    words = int.from_bytes(data[start:end], "little")
    words ^= int.from_bytes((mask[at : at + 4] * (size // 4 + 1))[:size], "little")
    return head + words.to_bytes(size, "little")


def _check(data: bytes, start: int, end: int, mask: bytes, at: int) -> None:
    if not (0 <= start <= end <= len(data) and 0 <= at <= len(mask) - 4):
        raise ValueError("a part or a mask that is not there")


def unmask_text(data: bytes, start: int, end: int, mask: bytes, at: int) -> str:
    """Return the text in `data[start:end]`, unmasked as by `apply_mask()`. When compiled, ASCII is unmasked in the str
    itself. Raises UnicodeDecodeError, and ValueError like `apply_mask()`."""
    _check(data, start, end, mask, at)
    size = end - start
    if COMPILED and size > 1:  # of one character CPython has one object
        source, key = data, mask
        text: str = new_memory(size, True)  # type: ignore[name-defined]  # noqa: F821
        target = memory(text)  # type: ignore[name-defined]  # noqa: F821
        if xor(target, source + start, size, key + at):  # type: ignore[name-defined,operator]  # noqa: F821
            return text
        decoded: str = target[0:size].decode("utf-8")
        return decoded
    return apply_mask(data, start, end, mask, at).decode("utf-8")


def text_bytes(text: str) -> bytes | memoryview:
    """Return the bytes of `text`, which must be ASCII. When compiled, a view of its own memory."""
    if COMPILED:
        view: memoryview = view_memory(text, 0, len(text), False)  # type: ignore[name-defined]  # noqa: F821
        return view
    return text.encode("ascii")


def join(head: bytes, payload: bytes) -> bytes:
    """Return `head + payload`, when compiled in half the time for short ones."""
    if COMPILED:
        if head is None or payload is None:  # Cython accepts None for a parameter of type bytes
            raise TypeError("None is not bytes")
        joined: bytes = join_bytes(head, payload)  # type: ignore[name-defined]  # noqa: F821
        return joined
    return head + payload


def join_ascii(head: bytes, text: str) -> bytes:
    """Return `head` and the bytes of `text`, which must be ASCII."""
    if COMPILED:
        if head is None or text is None:  # as in join()
            raise TypeError("None is neither bytes nor str")
        joined: bytes = join_bytes(head, text)  # type: ignore[name-defined]  # noqa: F821
        return joined
    return head + text.encode("ascii")


class PayloadBuffer:
    """Receives a large payload in pieces. When compiled, its memory is the object that becomes the message; in plain
    Python it is a bytearray.

    For each piece: write it into `get_buffer()` and call `unmask()`, or call `put()`. If the payload is text, check
    `ascii` after each piece: once it is false, only `contents()` can be used.
    """

    __slots__ = ("_capacity", "_memory", "_text", "ascii", "ascii_size", "filled", "size")

    def __init__(self, size: int, text: bool, received: int) -> None:
        """`size` is the length of the payload in bytes; `text` says whether it is a text message. `received` bytes have
        arrived already: a multiple of those is allocated, not what the header announces."""
        capacity = min(size, _GROWTH * received)
        self._memory: Any = new_memory(capacity, text) if COMPILED else bytearray(capacity)  # type: ignore[name-defined]  # noqa: F821
        self.size = size
        self.filled = 0  # bytes received and unmasked
        self.ascii = True  # all of them are ASCII
        self.ascii_size = 0  # bytes before the first piece that is not ASCII
        self._text = text
        self._capacity = capacity

    def get_buffer(self) -> memoryview:
        """Return the free memory for the next bytes, at least one while any are missing.

        Views that were returned earlier must not exist any more.
        """
        if self.filled == self._capacity:
            self._grow(self.filled + 1)
        if COMPILED:
            view: memoryview = view_memory(self._memory, self.filled, self._capacity, True)  # type: ignore[name-defined]  # noqa: F821
            return view
        return memoryview(self._memory)[self.filled :]

    def put(self, data: bytes, start: int, end: int, mask: bytes, at: int) -> None:
        """Append `data[start:end]`, unmasked as by `unmask()`. Raises ValueError if that is out of range or longer than
        the missing rest of the payload."""
        size = end - start
        if not (0 <= start <= end <= len(data) and size <= self.size - self.filled):
            raise ValueError("more than there is, or than is missing")
        if self.filled + size > self._capacity:
            self._grow(self.filled + size)
        self._unmask(data, start, size, mask, at)

    def unmask(self, size: int, mask: bytes, at: int) -> None:
        """Unmask the first `size` bytes of `get_buffer()` with the 4 bytes at `mask[at:]`, and count them as received.
        If `mask` is empty, they are not masked. Raises ValueError if `size` or `at` is out of range."""
        if not 0 <= size <= self._capacity - self.filled:
            raise ValueError("more than there is room for")
        self._unmask(None, 0, size, mask, at)

    def _unmask(self, data: bytes | None, start: int, size: int, mask: bytes, at: int) -> None:
        """Unmask `size` bytes of `data`, or if that is None those of `get_buffer()`, into `get_buffer()`."""
        if mask and not 0 <= at <= len(mask) - 4:
            raise ValueError("a mask that is not there")
        if not size:
            return
        begin = self.filled
        self.filled = begin + size
        if COMPILED:
            if not mask:
                mask, at = _NO_MASK, 0
            key = mask
            target = memory(self._memory) + begin  # type: ignore[name-defined]  # noqa: F821
            source = target
            if data is not None:
                source = data
                source += start  # type: ignore[operator]
            if not xor(target, source, size, key + at):  # type: ignore[name-defined,operator]  # noqa: F821
                self.ascii = False
            if self.ascii:
                self.ascii_size = self.filled
            return
        piece = bytes(self._memory[begin : self.filled]) if data is None else data[start : start + size]
        self._memory[begin : self.filled] = piece = apply_mask(piece, 0, size, mask, at) if mask else piece
        self.ascii = self.ascii and piece.isascii()
        if self.ascii:
            self.ascii_size = self.filled

    def contents(self, start: int = 0) -> bytes:
        """Return what has been received, from index `start` on, as bytes. Raises ValueError if `start` is out of
        range."""
        if not 0 <= start <= self.filled:
            raise ValueError("more than there is")
        if COMPILED:
            part: bytes = memory(self._memory)[start : self.filled]  # type: ignore[name-defined]  # noqa: F821
            return part
        return bytes(self._memory[start : self.filled])

    def message(self) -> str | bytes:
        """Return the payload, str for text. Raises ValueError unless it is complete and, if text, ASCII."""
        if self.filled < self.size or (self._text and not self.ascii):
            raise ValueError("not all of it has come, or not all of it is ASCII")
        if COMPILED:
            whole: str | bytes = self._memory
            return whole
        return self._memory.decode("ascii") if self._text else bytes(self._memory)

    def _grow(self, size: int) -> None:
        """Enlarge the capacity to at least `size` bytes."""
        capacity = min(self.size, max(_GROWTH * size, _MIN_CAPACITY))
        if COMPILED:
            grown = new_memory(capacity, self._text)  # type: ignore[name-defined]  # noqa: F821
            copy(memory(grown), memory(self._memory), self.filled)  # type: ignore[name-defined]  # noqa: F821
            self._memory = grown
        else:
            self._memory.extend(bytes(capacity - self._capacity))
        self._capacity = capacity
