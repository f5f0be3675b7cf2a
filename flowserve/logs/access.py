"""The lines of the access log: their fields, their usual text, and formats that users define.

An AccessLine is the `msg` of its log record: it is formatted only when it is written, and each formatter gets its
fields by name. The record's `args` are those of uvicorn's access records, for filters and formatters made for these.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowserve.grammar import plural
from flowserve.logs.redaction import LogQuery, redact_referer

FIELDS: dict[str, tuple[Any, str]] = {
    "time": ("2000-01-01T00:00:00.000Z", "when it was logged (RFC 3339, UTC)"),
    "time_local": ("01/Jan/2000:00:00:00 +0000", "the same as Apache and nginx write it, in the server's time zone"),
    "level": ("INFO", "the line's level"),
    "pid": (1, "the process ID of the worker"),
    "kind": ("http", "http or websocket"),
    "event": ("response", "response; of a WebSocket open or close"),
    "client": ("127.0.0.1:50000", "the client's address and port; unix for a UNIX domain socket"),
    "address": ("127.0.0.1", "the client's address without the port"),
    "method": ("GET", "the request's method"),
    "target": ("/", "the request's target, with its query as --log-query says"),
    "path": ("/", "the target without its query"),
    "http_version": ("1.1", "1.0 or 1.1"),
    "status": (200, "the response's status; 101 for a WebSocket"),
    "referer": ("http://localhost/", "the request's Referer, with its query as --log-query says; not of a WebSocket"),
    "user_agent": ("curl/8.0", "the request's User-Agent"),
    "duration": (0.0, "seconds until the response was complete, or that the WebSocket was open"),
    "subprotocol": ("chat", "what was agreed on when the WebSocket was opened"),
    "close_code": (1000, "how the WebSocket ended"),
    "messages_in": (0, "messages from the client"),
    "bytes_in": (0, "bytes of them"),
    "messages_out": (0, "messages to the client"),
    "bytes_out": (0, "bytes of them; bytes of the response's body"),
    "dropped": (0, "messages that were not sent to a slow client (--ws-slow-consumer drop)"),
}
"""The fields that --access-log-format can name. Each has an example value, which gives its type, and a description."""

MISSING = "-"
"""The text for a field that a line does not have."""

_COMMON = '%(address)s - - [%(time_local)s] "%(method)s %(target)s HTTP/%(http_version)s" %(status)s %(bytes_out)s'
NAMED_FORMATS = {"common": _COMMON, "combined": _COMMON + ' "%(referer)s" "%(user_agent)s"'}
"""The formats that have a name: those of the same name in Apache and nginx, which programs that analyse logs read. The
fields for the user (RFC 1413 and RFC 7617) are always -."""

STATUS_COLOURS = {1: 97, 2: 32, 3: 33, 4: 31, 5: 91}
_OTHER_STATUS = 91
_NORMAL_CODES = frozenset((1000, 1001, 1005, 1012))
_NORMAL_COLOUR, _OTHER_COLOUR = 32, 33
_WEBSOCKET_VERSION, _SWITCHING_PROTOCOLS = "1.1", 101  # of the opening handshake (RFC 6455 section 4)

_CONVERSION = re.compile(
    r"%(?:%|(?:\((?P<name>[^()]*)\))?(?P<flags>[-+ #0]*)(?P<width>\d{0,3})(?P<precision>(?:\.\d{0,2})?)"
    r"(?P<type>[diouxXeEfFgGrsa]?))"
)


class _Text(str):
    """The text of a line for `LogRecord.getMessage()`, which applies % with the record's `args`: they are not for
    it."""

    __slots__ = ()

    def __mod__(self, args: object) -> str:
        return str(self)


@dataclass(slots=True)
class AccessLine(ABC):
    """A line of the access log. Its strings are as the peer sent them; `text()` and LineFormat escape them. FIELDS
    describes the attributes of this class and its subclasses."""

    client: str

    @abstractmethod
    def text(self, colours: bool = False) -> str:
        """Return the usual text of the line, in printable ASCII; with `colours`, its status or close code is coloured
        (ECMA-48)."""

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """Return the line's fields by their names in FIELDS."""

    @abstractmethod
    def uvicorn_args(self) -> tuple[str, str, str, str, int]:
        """Return the `args` of uvicorn's access records: client, method, target, HTTP version and status."""

    def __str__(self) -> str:
        return _Text(self.text())


@dataclass(slots=True)
class HTTPLine(AccessLine):
    """A request and its response: 127.0.0.1:51234 - "GET /path HTTP/1.1" 200 1.2ms"""

    method: str
    target: str
    http_version: str
    status: int
    duration: float  # seconds
    bytes_out: int  # of the response's body
    headers: Sequence[tuple[bytes, bytes]]  # of the request, with names in lower case
    log_query: LogQuery = "redact"  # for the referer; that of `target` is redacted already

    def text(self, colours: bool = False) -> str:
        request = f"{escape_for_log(self.method)} {escape_for_log(self.target)} HTTP/{self.http_version}"
        status = str(self.status)
        if colours:
            status = coloured(status, STATUS_COLOURS.get(self.status // 100, _OTHER_STATUS))
        return f'{escape_for_log(self.client)} - "{request}" {status} {show_time(self.duration)}'

    def fields(self) -> dict[str, Any]:
        fields = {
            "kind": "http",
            "event": "response",
            **_request_fields(self.client, self.method, self.target),
            "http_version": self.http_version,
            "status": self.status,
            "duration": round(self.duration, 6),
            "bytes_out": self.bytes_out,
        }
        referer, user_agent = self._header(b"referer"), self._header(b"user-agent")
        if referer is not None:
            fields["referer"] = redact_referer(referer, self.log_query)
        if user_agent is not None:
            fields["user_agent"] = user_agent
        return fields

    def uvicorn_args(self) -> tuple[str, str, str, str, int]:
        return self.client, self.method, escape_for_log(self.target), self.http_version, self.status

    def _header(self, name: bytes) -> str | None:
        return next((value.decode("latin-1") for field, value in self.headers if field == name), None)


@dataclass(slots=True)
class WebSocketLine(AccessLine):
    """The begin or the end of a WebSocket."""

    target: str
    user_agent: bytes | None = field(kw_only=True, default=None)

    @abstractmethod
    def outcome(self, colours: bool = False) -> str:
        """Return what has happened, the end of `text()`."""

    def text(self, colours: bool = False) -> str:
        return f'{escape_for_log(self.client)} - "WebSocket {escape_for_log(self.target)}" {self.outcome(colours)}'

    def uvicorn_args(self) -> tuple[str, str, str, str, int]:
        return self.client, "GET", escape_for_log(self.target), _WEBSOCKET_VERSION, _SWITCHING_PROTOCOLS

    def _common_fields(self, event: str) -> dict[str, Any]:
        fields = {
            "kind": "websocket",
            "event": event,
            **_request_fields(self.client, "GET", self.target),
            "http_version": _WEBSOCKET_VERSION,
            "status": _SWITCHING_PROTOCOLS,
        }
        if self.user_agent is not None:
            fields["user_agent"] = self.user_agent.decode("latin-1")
        return fields


@dataclass(slots=True)
class OpenLine(WebSocketLine):
    """An accepted WebSocket: 127.0.0.1:51234 - "WebSocket /ws" accepted"""

    subprotocol: str | None

    def outcome(self, colours: bool = False) -> str:
        chosen = f", subprotocol {escape_for_log(self.subprotocol)}" if self.subprotocol is not None else ""
        return f"accepted{chosen}"

    def fields(self) -> dict[str, Any]:
        fields = self._common_fields("open")
        if self.subprotocol is not None:
            fields["subprotocol"] = self.subprotocol
        return fields


@dataclass(slots=True)
class CloseLine(WebSocketLine):
    """A closed WebSocket:
    127.0.0.1:51234 - "WebSocket /ws" closed 1000 after 12.3s, in 12 messages 3.4kB, out 12 messages 3.4kB
    """

    close_code: int
    duration: float  # seconds
    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int
    dropped: int

    def outcome(self, colours: bool = False) -> str:
        code = str(self.close_code)
        if colours:
            code = coloured(code, _NORMAL_COLOUR if self.close_code in _NORMAL_CODES else _OTHER_COLOUR)
        traffic = (
            f"in {plural(self.messages_in, 'message')} {show_bytes(self.bytes_in)},"
            f" out {plural(self.messages_out, 'message')} {show_bytes(self.bytes_out)}"
        )
        if self.dropped:
            traffic += f", dropped {self.dropped}"
        return f"closed {code} after {show_time(self.duration)}, {traffic}"

    def fields(self) -> dict[str, Any]:
        return {
            **self._common_fields("close"),
            "duration": round(self.duration, 6),
            "close_code": self.close_code,
            "messages_in": self.messages_in,
            "bytes_in": self.bytes_in,
            "messages_out": self.messages_out,
            "bytes_out": self.bytes_out,
            "dropped": self.dropped,
        }


class LineFormat:
    """A format for access lines: one of NAMED_FORMATS, or one in the syntax of Python's % operator, as
    `%(client)s "%(method)s" %(status)d`.

    Raises ValueError, which says what is wrong with the format and lists the fields.
    """

    def __init__(self, text: str) -> None:
        # Literal text, or for a field its name, its format, and the format of MISSING.
        self._pieces: list[str | tuple[str, str, str]] = []
        self.names: set[str] = set()
        """The fields in it."""
        text, end = NAMED_FORMATS.get(text, text), 0
        for match in _CONVERSION.finditer(text):
            self._pieces.append(text[end : match.start()])
            self._pieces.append("%" if match[0] == "%%" else _parse_conversion(match))
            end = match.end()
        self._pieces.append(text[end:])
        self.names.update(piece[0] for piece in self._pieces if not isinstance(piece, str))
        if not self.names:
            raise ValueError(f"{text!r} names no field; write e.g. %(client)s, or {' or '.join(NAMED_FORMATS)}")

    def show(self, fields: Mapping[str, Any]) -> str:
        """Return the line for `fields`, in printable ASCII; - stands for a field that is not among them."""
        return "".join(piece if isinstance(piece, str) else _format_field(*piece, fields) for piece in self._pieces)


def _parse_conversion(match: re.Match[str]) -> tuple[str, str, str]:
    found, name, kind = match[0], match["name"], match["type"]
    if name is None:
        found = match.string[match.start() :][:20]
        raise ValueError(f"{found!r} names no field; write e.g. %(client)s, and %% for a percent sign")
    if name not in FIELDS:
        matches = difflib.get_close_matches(name, FIELDS, 1)
        hint = f" (did you mean {matches[0]}?)" if matches else ""
        raise ValueError(f"there is no field {name!r}{hint}; the fields are {', '.join(FIELDS)}")
    if not kind:
        raise ValueError(f"{found!r} does not say how to show the field; write e.g. %({name})s")
    spec = f"%{match['flags']}{match['width']}{match['precision']}{kind}"
    try:
        spec % FIELDS[name][0]
    except (TypeError, ValueError):
        raise ValueError(f"{found!r}: the field is not a number; write %({name})s") from None
    return name, spec, f"%{'-' if '-' in match['flags'] else ''}{match['width']}s"


def _format_field(name: str, spec: str, absent: str, fields: Mapping[str, Any]) -> str:
    value = fields.get(name)
    if value is None:
        return absent % MISSING
    return spec % (escape_for_log(value) if isinstance(value, str) else value)


def _request_fields(client: str, method: str, target: str) -> dict[str, Any]:
    host, colon, _ = client.rpartition(":")
    address = host.strip("[]") if colon else client
    path = target.partition("?")[0]
    return {"client": client, "address": address, "method": method, "target": target, "path": path}


def escape_for_log(text: str) -> str:
    """Return `text` in printable ASCII, with quotes and backslashes escaped, so that a peer cannot forge log lines."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')


def coloured(text: str, colour: int) -> str:
    """Return `text` in a terminal colour, the number of a select graphic rendition sequence (ECMA-48)."""
    return f"\x1b[{colour}m{text}\x1b[0m"


def show_time(seconds: float) -> str:
    """Format a duration: 1.2ms below a second, 12.3s from a second on."""
    return f"{seconds * 1000:.1f}ms" if seconds < 0.9995 else f"{seconds:.1f}s"


def show_bytes(count: int) -> str:
    """Format a number of bytes in decimal units: 812B, 3.4kB, 1.2GB."""
    if count < 1000:
        return f"{count}B"
    amount = float(count)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f}{unit}"
    return f"{amount / 1000:.1f}TB"
