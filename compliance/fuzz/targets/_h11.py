"""h11 as an oracle for HTTP/1.1: what both read must be the same.

Where one refuses what the other reads, a rule says why: where flowserve is stricter (`_STRICTER`), by how its error's
detail begins, and where it is more lenient (`_LENIENT`), by how h11's message begins. Whatever no rule explains is a
finding.
"""

from __future__ import annotations

from typing import Any

import h11

from compliance.fuzz.findings import Broken, require
from compliance.fuzz.targets._values import Given

_STRICTER = {
    "Bad request: invalid Host header": "a Host field that could be no host's name",
    "Bad request: exactly one Host header": "h11 lets HTTP/1.0 have several",
    "Bad request: fragment in the request target": "RFC 9112 section 3.2 has none",
    "Bad request: invalid request target": "RFC 9112 section 3.2: origin-form, absolute-form, or * for OPTIONS",
    "Bad request: invalid host in the request target": "RFC 9112 section 3.2.2",
    "Bad request: Transfer-Encoding in HTTP/1.0": "RFC 9112 section 6.1: the framing is faulty",
    "Bad request: invalid chunk size or extension": "h11 takes any extension, and blanks behind a size",
    "Bad request: invalid chunk": "h11 has a larger limit of a chunk's line",
    "Bad request: invalid trailer field": "h11 takes folded lines and bare line feeds",
    "The trailer fields are too large": "a limit of ours",
    "The request body is too large": "a limit of ours",
    "The request head is larger": "a limit of ours",
    "The request target is too long": "a limit of ours",
    "The method is too long": "a limit of ours",
    "More than": "a limit of ours",
    "CONNECT is not supported": "a server is no proxy",
    "No other transfer coding": "said with 501",
    "Only HTTP/1.0 and HTTP/1.1": "said with 505",
    "Bad request: malformed request line": "what llhttp takes for HTTP/2, RTSP or ICE",
    "Bad request: ": "llhttp refuses bare line feeds, folded lines, a length twice or beside chunks, and more",
    "This port speaks no TLS": "a hint",
    "HTTP/2 is not spoken here": "a hint",
    "The PROXY protocol is not expected": "a hint",
}
_LENIENT: dict[str, str] = {
    "illegal request line": "h11 skips no empty lines (RFC 9112 section 2.2), and takes no later 1.x",
    "illegal header line": "h11 takes no control character, nor a byte above 0x7f with some of them",
    "Receive buffer too long": "a limit of h11's",
    "Only Transfer-Encoding: chunked": "h11 looks at trailer fields as at others; flowserve passes over them",
    "illegal chunk header": "h11 takes no blanks before a semicolon (RFC 9112 section 7.1.1)",
    "no request line received": "empty lines again",
}


class _Theirs:
    """Requests as h11 reads them, with its error."""

    def __init__(self, data: bytes) -> None:
        self.requests: list[dict[str, Any]] = []
        self.error: str | None = None
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
        self._connection.receive_data(data)
        try:
            while self._event():
                pass
        except h11.RemoteProtocolError as error:
            self.error = str(error)

    def _event(self) -> bool:
        connection = self._connection
        event = connection.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return False
        if isinstance(event, h11.Request):
            self.requests.append({
                "method": event.method.decode("latin-1"),
                "target": bytes(event.target),
                "version": event.http_version.decode(),
                "headers": [(bytes(name), bytes(value)) for name, value in event.headers],
                "body": b"",
                "complete": False,
            })  # fmt: skip
        elif isinstance(event, h11.Data):
            self.requests[-1]["body"] += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            self.requests[-1]["complete"] = True
            return self._next_cycle()
        return True

    def _next_cycle(self) -> bool:
        connection = self._connection
        if connection.their_state is not h11.DONE:
            return False
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            return False
        connection.start_next_cycle()
        return True


def agree_on_requests(data: bytes, seen: dict[str, Any]) -> bool:
    """Compare what h11 reads in a stream of requests; False if there was nothing to compare."""
    ours, theirs = seen["requests"], _Theirs(data)
    for mine, other in zip(ours, theirs.requests, strict=False):
        _same_request(mine, other)
    if len(ours) < len(theirs.requests):
        _explain_refusal(seen["end"], theirs.requests[len(ours)])
    elif len(ours) > len(theirs.requests) and theirs.error is not None:
        _explain(theirs.error, _LENIENT, "h11 refuses a request that flowserve reads", ours[len(theirs.requests)])
    return bool(ours and theirs.requests)


def _as_h11(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Fields as h11 has them: a transfer coding in lower case."""
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in fields]


def _explain_refusal(end: Any, other: dict[str, Any]) -> None:
    if end == "over":
        return  # h11 goes on behind a request that asked for a WebSocket
    if end is None:
        raise Broken("h11 reads a request where flowserve waits for more", other)
    _explain(end[1], _STRICTER, "flowserve refuses a request that h11 reads", other)


def _explain(said: str, rules: dict[str, str], what: str, *details: Any) -> None:
    if not any(said.startswith(begin) for begin in rules):
        raise Broken(f"{what}: {said}", *details)


def _same_request(mine: dict[str, Any], other: dict[str, Any]) -> None:
    require(mine["method"] == other["method"], "h11 reads another method", mine, other)
    absolute = not other["target"].startswith((b"/", b"*"))
    # RFC 9112 section 3.2.2: of an absolute target flowserve makes a path and a Host field
    require(absolute or mine["target"] == other["target"], "h11 reads another target", mine, other)
    later = other["version"] not in ("1.0", "1.1")
    require(later or mine["version"] == other["version"], "h11 reads another version", mine, other)
    headers = [(name, value) for name, value in _as_h11(mine["headers"]) if not (absolute and name == b"host")]
    others = [(name, value) for name, value in other["headers"] if not (absolute and name == b"host")]
    require(headers == others, "h11 reads other fields", headers, others)
    body, complete = mine["body"], mine["complete"]
    if complete and other["complete"]:
        require(body == other["body"], "h11 reads another body", mine, other)
    else:
        # h11 gives no part of a chunk's line; and an error may come before its end
        shorter = min(len(body), len(other["body"]))
        require(body[:shorter] == other["body"][:shorter], "h11 reads another beginning of a body", mine, other)


def agree_on_chunks(data: bytes, seen: Any) -> bool:
    """Compare a chunked body, as h11 reads it in a request."""
    body, rest, end = seen
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
    connection.receive_data(head + data)
    other, complete, error = b"", False, None
    try:
        while not complete:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                other += bytes(event.data)
            complete = isinstance(event, h11.EndOfMessage)
            if event is h11.NEED_DATA:
                break
    except h11.RemoteProtocolError as problem:
        error = str(problem)
    shorter = min(len(body), len(other))
    require(body[:shorter] == other[:shorter], "h11 reads another beginning of a body", body, other)
    if complete and end is None:
        require(body == other, "h11 reads another body", body, other)
        require(rest == connection.trailing_data[0], "h11's body ends elsewhere", rest, connection.trailing_data)
        return True
    if complete and end == "incomplete":
        raise Broken("h11 reads a body where flowserve waits for more", body, other)
    if complete:
        _explain(end[1], _STRICTER, "flowserve refuses a body that h11 reads", other)
    elif error is not None and end is None:
        _explain(error, _LENIENT, "h11 refuses a body that flowserve reads", body)
    return bool(body or other)


def agree_on_response(method: str, data: bytes, seen: dict[str, Any]) -> bool:
    """Compare the head of the response that counts."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=65536)
    target = "a:1" if method == "CONNECT" else "/"
    upgrade = [] if method == "CONNECT" else [("upgrade", "websocket"), ("connection", "upgrade")]
    connection.send(h11.Request(method=method, target=target, headers=[("host", "a"), *upgrade]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    try:
        event = connection.next_event()
        while isinstance(event, h11.InformationalResponse) and event.status_code != 101:
            event = connection.next_event()
    except h11.RemoteProtocolError:
        return False  # h11 is the stricter one here: it wants a framing that makes sense
    if not isinstance(event, (h11.Response, h11.InformationalResponse)) or "error" in seen:
        return False
    fields = [(bytes(name), bytes(value)) for name, value in event.headers]
    require(seen["status"] == event.status_code, "h11 reads another status", seen, event.status_code)
    require(_as_h11(seen["headers"]) == fields, "h11 reads other fields", seen["headers"], fields)
    return True


def agree_on_encoded(given: Given, sent: bytes, keep_alive: bool) -> bool:
    """Compare what h11's client reads in a response of flowserve's server."""
    if given.version == "1.0":
        return False  # h11 asks with 1.1 only
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=65536)
    connection.send(h11.Request(method=given.method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(sent)
    if not keep_alive:
        connection.receive_data(b"")
    body, event = b"", connection.next_event()  # what h11 raises is a finding: this is not a peer's
    require(isinstance(event, h11.Response) and event.status_code == given.status, "h11 reads another status", event)
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if not isinstance(event, h11.Data):
            raise Broken("h11 waits for more of a response", event, sent)
        body += bytes(event.data)
    expected = b"" if given.method == "HEAD" or given.status in (204, 304) else b"".join(given.body)
    require(body == expected, "h11 reads another body", body, expected)
    require(not connection.trailing_data[0], "h11 finds something behind the response", sent)
    require(keep_alive == (connection.their_state is h11.DONE), "h11 would use the connection otherwise", sent)
    return True
