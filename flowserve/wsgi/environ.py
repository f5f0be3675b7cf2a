"""An ASGI HTTP scope and its body as a WSGI environ (PEP 3333, RFC 3875 section 4.1)."""

from __future__ import annotations

import io
import os
import sys
from functools import lru_cache
from typing import Any, TextIO
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from flowserve.wsgi.request_body import RequestBody, RequestMessages

_BLOCK = 65536
"""Smallest block, in bytes, in which wsgi.file_wrapper reads a file."""
_SCHEMES = {"ws": "http", "wss": "https"}


def build_environ(scope: dict[str, Any], messages: RequestMessages) -> dict[str, Any]:
    """Return the environ of a request without wsgi.multithread and wsgi.multiprocess.

    As in WSGI, each character of a str stands for one byte. wsgi.input reads the body from `messages`; it must be read
    in a thread other than the event loop's.
    """
    scheme = _SCHEMES.get(scope["scheme"], scope["scheme"])
    raw_path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    environ = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "SCRIPT_NAME": scope["root_path"].encode().decode("latin-1"),
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": f"{raw_path}?{query}" if query else raw_path,  # not in PEP 3333, but many servers set it
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BufferedReader(RequestBody(messages)),
        "wsgi.errors": _error_stream(),
        "wsgi.run_once": False,
        "wsgi.file_wrapper": _FileWrapper,
    }
    _add_addresses(environ, scope)
    _add_headers(environ, scope["headers"])
    if "CONTENT_LENGTH" not in environ:  # frameworks detect a body that was cut off by its Content-Length
        environ["wsgi.input_terminated"] = True  # a chunked body can be read to its end
    return environ


def _add_addresses(environ: dict[str, Any], scope: dict[str, Any]) -> None:
    """Add the addresses of both ends. A UNIX socket has none, but SERVER_NAME and SERVER_PORT are required."""
    host, port = scope.get("server") or ("", None)
    if port is None:
        host, port = "localhost", 443 if environ["wsgi.url_scheme"] == "https" else 80
    environ["SERVER_NAME"], environ["SERVER_PORT"] = host, str(port)
    address, port = scope.get("client") or ("", "")
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address, str(port)


def _add_headers(environ: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
    """Add the header fields; those of one name are joined (RFC 9110 section 5.3, RFC 9113 section 8.2.3).

    Names with an underscore are left out, as nginx does: a client's X_Real_IP would have the same key as the X-Real-IP
    of a proxy.
    """
    for name, value in headers:
        if b"_" in name:
            continue
        key, text = _environ_key(name), value.decode("latin-1")
        if key in environ:
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text


@lru_cache(maxsize=256)
def _environ_key(name: bytes) -> str:
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


@lru_cache(maxsize=1)
def _null_stream() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _error_stream() -> TextIO:
    """Return sys.stderr, or a null stream in a process that was started without one."""
    return _null_stream() if sys.stderr is None else sys.stderr


class _FileWrapper(FileWrapper):
    """wsgi.file_wrapper with larger blocks than frameworks ask for: their size is only a suggestion (PEP 3333)."""

    def __init__(self, filelike: Any, blksize: int = _BLOCK) -> None:
        super().__init__(filelike, max(blksize, _BLOCK))
