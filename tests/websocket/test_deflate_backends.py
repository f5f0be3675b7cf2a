"""Which library compresses."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from support.compression import BACKENDS, TAIL, each_backend, prose, read_slowly

from flowserve.errors import ConfigError
from flowserve.websocket import deflate, deflate_backends


@pytest.fixture
def _fresh_choice() -> Iterator[None]:
    deflate_backends.backend.cache_clear()
    yield
    deflate_backends.backend.cache_clear()


@pytest.mark.usefixtures("_fresh_choice")
def test_backend_is_chosen_by_the_environment(monkeypatch):
    for library in BACKENDS:
        monkeypatch.setenv("FLOWSERVE_ZLIB", library.name)
        deflate_backends.backend.cache_clear()
        assert deflate_backends.backend().name == library.name
        assert str(deflate_backends.backend()) == f"{library.name} {library.version}"
        assert library.version[0].isdigit()
    monkeypatch.delenv("FLOWSERVE_ZLIB")
    deflate_backends.backend.cache_clear()
    assert deflate_backends.backend().name == BACKENDS[-1].name
    assert deflate_backends.backend() is deflate_backends.backend()


@pytest.mark.usefixtures("_fresh_choice")
@pytest.mark.parametrize(
    ("name", "words"),
    [("fast", "write zlib, zlib-ng or isal"), ("isal", "pip install isal"), ("zlib-ng", "pip install zlib-ng")],
)
def test_a_backend_that_is_not_there_is_a_clear_error(monkeypatch, name, words):
    def missing(module: str) -> None:
        raise ImportError(module)

    monkeypatch.setattr(deflate_backends.importlib, "import_module", missing)
    monkeypatch.setenv("FLOWSERVE_ZLIB", name)
    with pytest.raises(ConfigError, match=words):
        deflate_backends.backend()
    monkeypatch.delenv("FLOWSERVE_ZLIB")
    assert deflate_backends.backend().name == "zlib"


@each_backend
def test_backends_can_do_what_is_asked_of_them(library):
    message = prose(50_000)
    for level in range(1, 10):
        for window_bits in range(9, 16):
            for mem_level in (1, 5, 8, 9):
                sender = deflate.Deflater(level, window_bits, mem_level, False, library)
                payload = sender.compress(message)
                assert len(payload) < 40_000
                assert b"".join(read_slowly(zlib.decompressobj(-window_bits), payload + TAIL)) == message
