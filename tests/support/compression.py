"""Both ends of permessage-deflate, and data to compress."""

from __future__ import annotations

import random
import zlib
from io import BytesIO

import pytest
from hypothesis import strategies as st

from flowserve.websocket import deflate_backends
from flowserve.websocket.constants import Role
from flowserve.websocket.deflate import DeflateParameters, DeflateSettings, PerMessageDeflate

MIB = 1 << 20
TAIL = b"\x00\x00\xff\xff"
SHARED = DeflateSettings()
TAKEOVER = DeflateSettings(context="takeover")
SMALL = DeflateSettings(context="takeover", send_window_bits=11, receive_window_bits=10)


def installed() -> list[deflate_backends.Backend]:
    found = []
    for name in ("zlib", "zlib-ng", "isal"):
        try:
            found.append(deflate_backends._backend(name))
        except ImportError:
            pass
    return found


BACKENDS = installed()
each_backend = pytest.mark.parametrize("library", BACKENDS, ids=lambda library: library.name)
each_context = pytest.mark.parametrize("configured", [SHARED, TAKEOVER], ids=lambda configured: configured.context)


def agreed(configured: DeflateSettings, server_bits: int = 15, client_bits: int = 15) -> DeflateParameters:
    shared = configured.context == "shared"
    return DeflateParameters(shared, shared, server_bits, client_bits)


def codec(configured: DeflateSettings, library: deflate_backends.Backend = BACKENDS[0]) -> PerMessageDeflate:
    return PerMessageDeflate(configured, agreed(configured), Role.SERVER, library)


def inflate(receiver: PerMessageDeflate, data: deflate_backends.Data, limit: int, final: bool = False) -> bytes:
    """All that comes out of a piece of a message."""
    out = BytesIO()  # grows in place, and gives its bytes away without a copy
    out.write(receiver.inflate(data, limit, final))
    while receiver.unfinished:
        out.write(receiver.inflate_more(limit - out.tell()))
    return out.getvalue()


def pieces(receiver: PerMessageDeflate, payload: bytes, size: int, limit: int = MIB) -> bytes:
    """Inflate a message that comes in pieces of `size` bytes."""
    out = b""
    for start in range(0, len(payload), size):
        out += inflate(receiver, payload[start : start + size], limit - len(out))
    return out + inflate(receiver, b"", limit - len(out), True)


def sync_flushed(data: bytes, stream: zlib._Compress | None = None) -> bytes:
    stream = stream or zlib.compressobj(wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def finished(data: bytes, window: bytes = b"") -> bytes:
    """A message that ends in a final block, as RFC 7692 section 7.2.3.4 has it, made with knowledge of `window`."""
    stream = zlib.compressobj(wbits=-15, zdict=window) if window else zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH) + b"\x00"


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def prose(size: int, seed: int = 0) -> bytes:
    source = random.Random(seed)
    words = [b"alpha", b"beta", b"gamma", b"delta", b'{"id": ', b'"text": "', b"online", b"\n"]
    return b" ".join(source.choice(words) for _ in range(size // 4))[:size]


settings_strategy = st.builds(
    DeflateSettings,
    context=st.sampled_from(["shared", "takeover"]),
    level=st.integers(1, 9),
    send_window_bits=st.integers(9, 15),
    receive_window_bits=st.integers(8, 15),
    mem_level=st.integers(1, 9),
)


def read_slowly(reader: zlib._Decompress, payload: bytes) -> list[bytes]:
    """In small steps, so that zlib notices a distance that is longer than its window."""
    out = []
    while True:
        out.append(reader.decompress(payload, 100))
        payload = reader.unconsumed_tail
        if not payload and not out[-1]:
            return out
