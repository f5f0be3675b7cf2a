"""What a client sends to `topics.serve()`: requests in JSON, and the answers to them.

- Only Refusal is raised, and the answer to it is a JSON object that can be sent as text.
- A request that is read has an id and a type as the protocol says, and its members are of the types that are asked for.
- What is to be published is what it says it is: text is UTF-8, JSON is read again as the same value.
"""

from __future__ import annotations

import json
from typing import Any

from compliance.fuzz.findings import require
from flowserve.topics.message import Kind
from flowserve.topics.serving.protocol import Refusal, Request, encode_answer, encode_refusal, parse_request

_MAX_SIZE = 3000
MAX_LEN = 4000
_CODES = frozenset(("bad_request", "too_big"))


def observe(data: bytes) -> Any:
    message: str | bytes = data[1:] if data[:1] == b"\xff" else data.decode("utf-8", "replace")
    try:
        request = parse_request(message, _MAX_SIZE)
    except Refusal as refusal:
        return _refused(refusal.request_id, refusal)
    require(type(request.id) is int and 0 <= request.id <= 2**53 - 1, "an id that can't be", request.id)
    require(isinstance(request.type, str), "a type that is no string", request.type)
    answer = json.loads(encode_answer(request.id, type=request.type))
    require(answer == {"id": request.id, "type": request.type}, "an answer is to another request", answer)
    members = [_member(request, name) for name in ("topic", "since", "key", "grant")]
    return request.id, request.type, members, _flag(request), _published(request)


def _member(request: Request, name: str) -> Any:
    try:
        found = request.optional_text(name)
    except Refusal as refusal:
        return _refused(request.id, refusal)
    require(found is None or isinstance(found, str), "a member of another type", name, found)
    return found


def _flag(request: Request) -> Any:
    try:
        return request.flag("presence")
    except Refusal as refusal:
        return _refused(request.id, refusal)


def _published(request: Request) -> Any:
    try:
        payload, kind = request.payload()
    except Refusal as refusal:
        return _refused(request.id, refusal)
    if kind == Kind.JSON:
        again = json.dumps(json.loads(payload), separators=(",", ":"), ensure_ascii=False)
        require(json.loads(again) == json.loads(payload), "JSON is another value when it is read again", payload)
    else:
        require(kind in (Kind.TEXT, Kind.BINARY), "a kind that nobody publishes", kind)
    if kind == Kind.TEXT:
        payload.decode()
    return payload, int(kind)


def _refused(request_id: int | None, refusal: Refusal) -> Any:
    require(refusal.error["code"] in _CODES, "a code that the protocol does not have", refusal.error)
    text = encode_refusal(request_id, refusal)
    text.encode()
    answer = json.loads(text)
    require(answer == {"id": request_id, "error": refusal.error}, "another answer than was meant", answer)
    return answer
