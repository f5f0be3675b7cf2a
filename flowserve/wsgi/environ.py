"""An ASGI HTTP scope and its body as a WSGI environ (PEP 3333, RFC 3875 section 4.1)."""

from __future__ import annotations

import io
import os
import sys
from functools import lru_cache
from typing import Any, TextIO
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from flowserve.wsgi.request_body import Incoming, RequestBody

_BLOCK = 65536
"""Bytes of a file that are sent at a time."""
_SCHEMES = {"ws": "http", "wss": "https"}


def environ_of(scope: dict[str, Any], incoming: Incoming) -> dict[str, Any]:
    """Return the environ of a request, all but wsgi.multithread and wsgi.multiprocess.

    Text is what it is in WSGI: each character stands for a byte. wsgi.input reads what is `incoming`, and is for other
    threads than the event loop's.
    """
    scheme = _SCHEMES.get(scope["scheme"], scope["scheme"])
    raw_path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    environ = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "SCRIPT_NAME": scope["root_path"].encode().decode("latin-1"),
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": f"{raw_path}?{query}" if query else raw_path,  # no standard, but many servers have it
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BufferedReader(RequestBody(incoming)),
        "wsgi.errors": _errors(),
        "wsgi.run_once": False,
        "wsgi.file_wrapper": _FileWrapper,
    }
    _add_addresses(environ, scope)
    _add_headers(environ, scope["headers"])
    if "CONTENT_LENGTH" not in environ:  # where there is one, frameworks notice by it that a body has broken off
        environ["wsgi.input_terminated"] = True  # a chunked body can be read to its end
    return environ


def _add_addresses(environ: dict[str, Any], scope: dict[str, Any]) -> None:
    """Who speaks with whom. At a UNIX socket neither end has an address, but the names have to be there."""
    host, port = scope.get("server") or ("", None)
    if port is None:
        host, port = "localhost", 443 if environ["wsgi.url_scheme"] == "https" else 80
    environ["SERVER_NAME"], environ["SERVER_PORT"] = host, str(port)
    address, port = scope.get("client") or ("", "")
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address, str(port)


def _add_headers(environ: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
    """Fields of one name are joined (RFC 9110 section 5.3, RFC 9113 section 8.2.3).

    Names with an underscore are left out, as nginx does: X_Real_IP of a client's would be the same key as the X-Real-IP
    of a proxy's.
    """
    for name, value in headers:
        if b"_" in name:
            continue
        key, text = _key(name), value.decode("latin-1")
        if key in environ:
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text


@lru_cache(maxsize=256)
def _key(name: bytes) -> str:
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


@lru_cache(maxsize=1)
def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _errors() -> TextIO:
    """The standard error, which is None in a process that was started without one."""
    return _nowhere() if sys.stderr is None else sys.stderr


class _FileWrapper(FileWrapper):
    """wsgi.file_wrapper, in larger blocks than frameworks ask for: what they say is a suggestion (PEP 3333)."""

    def __init__(self, filelike: Any, blksize: int = _BLOCK) -> None:
        super().__init__(filelike, max(blksize, _BLOCK))
