# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False
"""What touches each byte of a payload: XOR masking (RFC 6455 section 5.3), and putting it behind its header."""

from __future__ import annotations

import os

COMPILED = not __file__.endswith(".py")

_POOL = 4096  # bytes of randomness that are fetched at once
_masks: list[bytes] = []


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
    inverse. `0 <= start <= end <= len(data)` and `0 <= at <= len(mask) - 4` are the caller's duty.
    """
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


def join(head: bytes, payload: bytes) -> bytes:
    """Return `head + payload`, in half the time for short ones."""
    if COMPILED:
        joined: bytes = join_bytes(head, payload)  # type: ignore[name-defined]  # noqa: F821
        return joined
    return head + payload
