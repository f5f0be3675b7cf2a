# cython: language_level=3, annotation_typing=False, binding=False, boundscheck=False, wraparound=False
"""What touches each byte of a payload: XOR masking (RFC 6455 section 5.3), putting it behind its header, and gathering
a large one where it will stay."""

from __future__ import annotations

import os
from typing import Any

COMPILED = not __file__.endswith(".py")

_POOL = 4096  # bytes of randomness that are fetched at once
_masks: list[bytes] = []
_NO_MASK = b"\0\0\0\0"
_GROWTH = 8  # times what has come: the room that a large payload gets
_LEAST_ROOM = 4096  # bytes, but not before something is to be put there


def new_mask() -> bytes:
    """Return a masking key, from a strong source of entropy as RFC 6455 section 5.3 asks for."""
    if not _masks:
        data = os.urandom(_POOL)
        pool = data
        for at in range(0, _POOL, 4):
            _masks.append(pool[at : at + 4])  # compiled: of a pointer, and no slice object made
    return _masks.pop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_masks.clear)  # two processes must not use the same ones


def apply_mask(data: bytes, start: int, end: int, mask: bytes, at: int = 0, head: bytes = b"") -> bytes:
    """Return `head` and behind it `data[start:end]`, each byte XORed with the mask byte that belongs to it.

    The mask is the 4 bytes at `mask[at:]`, the first of which belongs to `data[start]`. The operation is its own
    inverse. Raises ValueError unless `0 <= start <= end <= len(data)` and `0 <= at <= len(mask) - 4`.
    """
    if not (0 <= start <= end <= len(data) and 0 <= at <= len(mask) - 4):
        raise ValueError("a part or a mask that is not there")
    size = end - start
    if COMPILED:
        # The pointers are declared in the .pxd; a test holds this branch equal to the one below.
        lead = len(head)
        result: bytes = new_bytes(lead + size)  # type: ignore[name-defined]  # noqa: F821
        front, source, target, key = head, data, result, mask
        for i in range(lead):
            target[i] = front[i]  # type: ignore[index]
        repeat(pattern, key + at)  # type: ignore[name-defined,operator]  # noqa: F821
        done = 0
        while size - done >= 64:
            for i in range(64):  # a fixed count, so that the C compiler makes it a few vector instructions
                target[lead + done + i] = source[start + done + i] ^ pattern[i]  # type: ignore[index,name-defined]  # noqa: F821
            done += 64
        while done < size:
            target[lead + done] = source[start + done] ^ pattern[done & 3]  # type: ignore[index,name-defined]  # noqa: F821
            done += 1
        return result
    words = int.from_bytes(data[start:end], "little")
    words ^= int.from_bytes((mask[at : at + 4] * (size // 4 + 1))[:size], "little")
    return head + words.to_bytes(size, "little")


def text_bytes(text: str) -> bytes | memoryview:
    """Return `text`, which is ASCII, as bytes; compiled, they are those of the text itself."""
    if COMPILED:
        view: memoryview = view_memory(text, 0, len(text), False)  # type: ignore[name-defined]  # noqa: F821
        return view
    return text.encode("ascii")


def join(head: bytes, payload: bytes) -> bytes:
    """Return `head + payload`, in half the time for short ones."""
    if COMPILED:
        if head is None or payload is None:  # which a parameter of type bytes may be
            raise TypeError("None is not bytes")
        joined: bytes = join_bytes(head, payload)  # type: ignore[name-defined]  # noqa: F821
        return joined
    return head + payload


class PayloadBuffer:
    """Room for a large payload that comes in pieces. Compiled, it is put together in the very object that becomes the
    message; in plain Python, in a bytearray.

    `size` is what is to come, `filled` what has come, in bytes. `ascii` says whether all of it is ASCII, `ascii_size`
    how much of it was before the piece where it is not. Where text is expected, that has to be looked at after each
    piece, and `part()` be used where it is not.
    """

    __slots__ = ("_capacity", "_memory", "_text", "ascii", "ascii_size", "filled", "size")

    def __init__(self, size: int, text: bool, come: int) -> None:
        """`come` are the bytes that are there already: there is room for a multiple of them, not for what a header
        promises."""
        capacity = min(size, _GROWTH * come)
        self._memory: Any = new_memory(capacity, text) if COMPILED else bytearray(capacity)  # type: ignore[name-defined]  # noqa: F821
        self.size = size
        self.filled = 0
        self.ascii = True
        self.ascii_size = 0
        self._text = text
        self._capacity = capacity

    def get_buffer(self) -> memoryview:
        """Return the room for what comes next, to be written into: at least one byte while some is missing.

        The views that were returned before must be gone.
        """
        if self.filled == self._capacity:
            self._grow(self.filled + 1)
        if COMPILED:
            view: memoryview = view_memory(self._memory, self.filled, self._capacity, True)  # type: ignore[name-defined]  # noqa: F821
            return view
        return memoryview(self._memory)[self.filled :]

    def put(self, data: bytes, start: int, end: int) -> None:
        """Copy `data[start:end]` to where `get_buffer()` begins; `unmask()` is to follow. Raises ValueError where
        `data` has no such bytes, or the payload lacks fewer."""
        if not (0 <= start <= end <= len(data) and end - start <= self.size - self.filled):
            raise ValueError("more than there is, or than is missing")
        size = end - start
        if not size:
            return
        if self.filled + size > self._capacity:
            self._grow(self.filled + size)
        if COMPILED:
            source = data
            copy(memory(self._memory) + self.filled, source + start, size)  # type: ignore[name-defined,operator]  # noqa: F821
        else:
            self._memory[self.filled : self.filled + size] = data[start:end]

    def unmask(self, size: int, mask: bytes, at: int) -> None:
        """Unmask the `size` bytes that were put into `get_buffer()`, with the 4 bytes at `mask[at:]`, and count them as
        part of the payload; an empty mask is none. Raises ValueError for more bytes than there is room for, and where
        `mask` has no 4 bytes there."""
        if not 0 <= size <= self._capacity - self.filled or (mask and not 0 <= at <= len(mask) - 4):
            raise ValueError("more than there is room for, or a mask that is not there")
        if not size:
            return
        begin = self.filled
        self.filled = begin + size
        if COMPILED:
            if not mask:
                mask, at = _NO_MASK, 0
            key = mask
            target = memory(self._memory) + begin  # type: ignore[name-defined]  # noqa: F821
            repeat(pattern, key + at)  # type: ignore[name-defined,operator]  # noqa: F821
            fill(seen, 0, 64)  # type: ignore[name-defined]  # noqa: F821
            done = 0
            while size - done >= 64:
                for i in range(64):  # as above
                    target[done + i] ^= pattern[i]  # type: ignore[name-defined]  # noqa: F821
                    seen[i] |= target[done + i]  # type: ignore[name-defined]  # noqa: F821
                done += 64
            while done < size:
                target[done] ^= pattern[done & 3]  # type: ignore[name-defined]  # noqa: F821
                seen[0] |= target[done]  # type: ignore[name-defined]  # noqa: F821
                done += 1
            for i in range(64):
                if seen[i] >= 0x80:  # type: ignore[name-defined]  # noqa: F821
                    self.ascii = False
            if self.ascii:
                self.ascii_size = self.filled
            return
        piece = bytes(self._memory[begin : self.filled])
        if mask:
            self._memory[begin : self.filled] = piece = apply_mask(piece, 0, size, mask, at)
        self.ascii = self.ascii and piece.isascii()
        if self.ascii:
            self.ascii_size = self.filled

    def part(self, start: int = 0) -> bytes:
        """Return what has come, from `start` on, as bytes. Raises ValueError for more than that."""
        if not 0 <= start <= self.filled:
            raise ValueError("more than there is")
        if COMPILED:
            part: bytes = memory(self._memory)[start : self.filled]  # type: ignore[name-defined]  # noqa: F821
            return part
        return bytes(self._memory[start : self.filled])

    def whole(self) -> str | bytes:
        """Return the payload. Raises ValueError unless it is complete and, where text is expected, ASCII."""
        if self.filled < self.size or (self._text and not self.ascii):
            raise ValueError("not all of it has come, or not all of it is ASCII")
        if COMPILED:
            whole: str | bytes = self._memory
            return whole
        return self._memory.decode("ascii") if self._text else bytes(self._memory)

    def _grow(self, least: int) -> None:
        """Have room for at least so much."""
        capacity = min(self.size, max(_GROWTH * least, _LEAST_ROOM))
        if COMPILED:
            grown = new_memory(capacity, self._text)  # type: ignore[name-defined]  # noqa: F821
            copy(memory(grown), memory(self._memory), self.filled)  # type: ignore[name-defined]  # noqa: F821
            self._memory = grown
        else:
            self._memory.extend(bytes(capacity - self._capacity))
        self._capacity = capacity
