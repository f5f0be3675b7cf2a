"""Requests of HTTP/1.1 and 1.0 on one connection, one behind the other.

- Only RequestError is raised, with a status from 400 on and a detail in printable ASCII.
- In pieces there are the same requests, bodies and error.
- A head over the limit, or with more fields, is never given to an application.
- Names of fields are tokens in lower case, values have no control characters; method, target and version are such as
  RFC 9112 has them; a request has one Host field, which could be a host's name.
- h11, where it reads the same bytes, sees the same requests, with the same bodies (see `_h11.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from compliance.fuzz.findings import require
from compliance.fuzz.pieces import same_in_pieces
from flowserve.errors import RequestError
from flowserve.http.messages import RequestHead
from flowserve.http.request_parser import RequestParser

MAX_LEN = 4096
MAX_HEAD, MAX_FIELDS = 1500, 16
_TOO_LARGE = (414, 431)
_AS_LARGE = (*_TOO_LARGE, 501, 505)  # what may be told of a head that is also too large
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]+")


def observe(data: bytes) -> Any:
    if not data:
        return None
    large = len(data) > MAX_HEAD
    return same_in_pieces(requests, data[1:], data[0], partial(known, _AS_LARGE if large else _TOO_LARGE))


def known(as_malformed: Sequence[int], seen: dict[str, Any]) -> dict[str, Any]:
    """Without what is known to depend on how a stream was cut.

    - What an error says beside its status: it may be a hint at another protocol, as far as that has come.
    - Of a head that is too large and malformed or not supported, what is seen first.
    """
    end = seen["end"]
    if isinstance(end, tuple):
        end = 400 if end[0] in as_malformed else end[0]
    return {**seen, "end": end}


class Recorder:
    """What a parser tells of, as plain data."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []

    def on_request(self, request: RequestHead) -> None:
        check(request)
        self.requests.append(described(request))

    def on_body(self, data: bytes) -> None:
        self.requests[-1]["body"] += data

    def on_end(self) -> None:
        self.requests[-1]["complete"] = True


def requests(pieces: Sequence[bytes]) -> dict[str, Any]:
    """Every request in the stream, and what ended it: an error, an upgrade, a request that closes, or the bytes."""
    recorder = Recorder()
    parser = RequestParser(recorder, MAX_HEAD, MAX_FIELDS)
    end: Any = None
    try:
        for piece in pieces:
            rest = piece
            while rest and end is None:
                rest = parser.feed(rest)
                last = recorder.requests[-1] if recorder.requests else None
                if last is not None and last["complete"] and (last["websocket"] or not last["keep_alive"]):
                    end = "over"
    except RequestError as error:
        require(400 <= error.status < 600, "an error without an error's status")
        require(error.detail.isprintable() and error.detail.isascii(), "an error's detail is not printable")
        end = (error.status, error.detail)
    finally:
        parser.close()
    return {"requests": recorder.requests, "end": end, "started": None if end else parser.started}


def described(request: RequestHead) -> dict[str, Any]:
    return {
        "method": request.method,
        "target": request.target,
        "path": (request.path, request.raw_path, request.query_string),
        "version": request.http_version,
        "headers": list(request.headers),
        "keep_alive": request.keep_alive,
        "said": (request.has_body, request.expect_continue, request.upgrade, request.forwarded),
        "websocket": request.is_websocket(),
        "body": b"",
        "complete": False,
    }


def check(request: RequestHead) -> None:
    """What must hold for a request that is given to an application."""
    require(_METHOD.fullmatch(request.method) is not None, "a method that is none")
    require(_TARGET.fullmatch(request.target) is not None, "a target with blanks or control characters")
    require(request.http_version in ("1.0", "1.1"), "a version that is not spoken here")
    require(len(request.headers) <= MAX_FIELDS + 1, "more fields than the limit")  # one may be made of the target
    size = sum(len(name) + len(value) for name, value in request.headers)
    require(size + len(request.target) <= 2 * MAX_HEAD, "a head over the limit")
    for name, value in request.headers:
        require(_NAME.fullmatch(name) is not None, "a field's name is no token in lower case", name)
        require(_VALUE.fullmatch(value) is not None, "a field's value has control characters in it", value)
        require(value == value.strip(b" \t"), "a field's value has white space around it")
    hosts = request.values(b"host")
    require(len(hosts) == 1 or (request.http_version == "1.0" and not hosts), "not one Host field", hosts)
    require(request.raw_path + b"?" + request.query_string in (request.target, request.target + b"?"), "a path is lost")
    request.path.encode()  # no lone surrogate


def compare(data: bytes, seen: Any) -> bool:
    from compliance.fuzz.targets._h11 import agree_on_requests

    return seen is not None and agree_on_requests(data[1:], seen)
