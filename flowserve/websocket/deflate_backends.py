"""The implementations of raw DEFLATE that permessage-deflate can use: zlib, zlib-ng or isal."""

from __future__ import annotations

import functools
import importlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from flowserve.errors import ConfigError, install_hint

Data = bytes | bytearray | memoryview


class Compressor(Protocol):
    """zlib's compression object."""

    def compress(self, data: Data, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


class Decompressor(Protocol):
    """zlib's decompression object."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: Data, max_length: int = ..., /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """An implementation of raw DEFLATE: zlib, zlib-ng or isal.

    `compressor(level, window_bits, mem_level)` takes zlib's levels, 1 to 9; `decompressor(window_bits, dictionary)`.
    `error` is what both raise. `reusable` says whether a full flush resets a compressor for less than the cost of a new
    one.
    """

    name: str
    version: str
    compressor: Callable[[int, int, int], Compressor]
    decompressor: Callable[[int, bytes], Decompressor]
    error: type[Exception]
    reusable: bool

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def _backend(name: str) -> Backend:
    """Raises ImportError if it is not installed."""
    module: Any = zlib
    version = zlib.ZLIB_RUNTIME_VERSION
    scale = tuple(range(10))
    if name == "zlib-ng":
        module = importlib.import_module("zlib_ng.zlib_ng")
        version = module.ZLIBNG_RUNTIME_VERSION
    elif name == "isal":
        module = importlib.import_module("isal.isal_zlib")
        version = importlib.import_module("isal").ISAL_VERSION
        scale = (1, 1, 1, 1, 2, 2, 2, 3, 3, 3)  # its level 0 makes short messages longer

    def compressor(level: int, window_bits: int, mem_level: int) -> Compressor:
        made: Compressor = module.compressobj(scale[level], zlib.DEFLATED, -window_bits, mem_level)
        return made

    def decompressor(window_bits: int, dictionary: bytes) -> Decompressor:
        more = {"zdict": dictionary} if dictionary else {}  # an empty one would make zlib allocate a window
        made: Decompressor = module.decompressobj(-window_bits, **more)
        return made

    return Backend(name, version, compressor, decompressor, module.error, name != "isal")


@functools.cache
def backend() -> Backend:
    """Return the implementation in use: the one named by the environment variable FLOWSERVE_ZLIB, else the fastest that
    is installed.

    Raises ConfigError if that name is not zlib, zlib-ng or isal, or its package is not installed.
    """
    name = os.environ.get("FLOWSERVE_ZLIB", "")
    if name not in ("", "zlib", "zlib-ng", "isal"):
        raise ConfigError(f"FLOWSERVE_ZLIB: {name!r} is not known; write zlib, zlib-ng or isal")
    try:
        return _backend(name or "isal")
    except ImportError:
        if name:
            raise ConfigError(f"FLOWSERVE_ZLIB: {install_hint(name)}") from None
    try:
        return _backend("zlib-ng")
    except ImportError:
        return _backend("zlib")
