# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False
"""XOR masking of payloads (RFC 6455 section 5.3)."""

from __future__ import annotations

import os

COMPILED = not __file__.endswith(".py")

_POOL = 4096  # bytes of randomness that are fetched at once
_masks: list[bytes] = []


def new_mask() -> bytes:
    """Return a masking key, from a strong source of entropy as RFC 6455 section 5.3 asks for."""
    if not _masks:
        pool = os.urandom(_POOL)
        _masks.extend([pool[at : at + 4] for at in range(0, _POOL, 4)])
    return _masks.pop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_masks.clear)  # two processes must not use the same ones


def apply_mask(data: bytes, start: int, end: int, mask: bytes) -> bytes:
    """Return `data[start:end]`, each byte XORed with the mask byte that belongs to it.

    `mask` has 4 bytes, the first of which belongs to `data[start]`. The operation is its own inverse.
    `0 <= start <= end <= len(data)` is the caller's duty.
    """
    size = end - start
    if COMPILED:
        # The pointers are declared in the .pxd; a test holds this branch equal to the one below.
        result: bytes = new_bytes(size)  # type: ignore[name-defined]  # noqa: F821
        pattern = mask * 16
        source, target, key = data, result, pattern
        at = 0
        while size - at >= 64:
            for i in range(64):  # a fixed count, so that the C compiler makes it a few vector instructions
                target[at + i] = source[start + at + i] ^ key[i]  # type: ignore[index]
            at += 64
        while at < size:
            target[at] = source[start + at] ^ key[at & 3]  # type: ignore[index]
            at += 1
        return result
    words = int.from_bytes(data[start:end], "little") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return words.to_bytes(size, "little")
