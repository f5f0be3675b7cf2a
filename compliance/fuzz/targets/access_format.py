"""Formats of access lines, and the lines in such a format.

The first byte says how many of the following bytes a peer sent as the target of a request; the others are the format.

- Only ValueError is raised, for a format.
- A line in a format that was taken is shown whatever the peer sent, and whatever is missing; what the peer sent puts no
  character into it that is not printable ASCII, and no bare quotation mark.
"""

from __future__ import annotations

from typing import Any

from compliance.fuzz.findings import require
from flowserve.logs.access import FIELDS, CloseLine, HTTPLine, LineFormat, OpenLine, escape_for_log

MAX_LEN = 400


def observe(data: bytes) -> Any:
    if not data:
        return None
    sent, text = data[1 : 1 + data[0]].decode("latin-1"), data[1 + data[0] :].decode("utf-8", "surrogateescape")
    _check_text(escape_for_log(sent))
    lines = (
        HTTPLine(sent, "GET", sent, "1.1", 200, 0.25, 5, [(b"referer", sent.encode("latin-1")), (b"user-agent", b"x")]),
        OpenLine("127.0.0.1:1", sent, sent),
        CloseLine(sent, "/", 1006, 1e9, 1, 2**62, 3, 4, 5),
    )
    for line in lines:
        require(line.text().isprintable() and line.text().isascii(), "a line is not printable")
        line.text(True)
        require(set(line.fields()) <= set(FIELDS), "a line has a field that no format can name")
    try:
        line_format = LineFormat(text)
    except ValueError as error:
        return str(error)
    empty = line_format.show({})
    for line in lines:
        line_format.show(line.fields())
    if text.isascii() and text.isprintable():
        shown = line_format.show(lines[0].fields())
        require(shown.isascii() and shown.isprintable(), "a line in a plain format is not printable", shown)
    return [line_format.show(line.fields()) for line in lines] + [empty]


def _check_text(text: str) -> None:
    require(text.isascii() and text.isprintable(), "text of a peer is not printable", text)
    require('"' not in text.replace('\\"', ""), "text of a peer has a bare quotation mark", text)
