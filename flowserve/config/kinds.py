"""Kinds of options: how a value is parsed, checked and formatted, and its name in --help."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from flowserve.grammar import is_token
from flowserve.logs.access import LineFormat

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
INT_MAX = 2**31 - 1
"""The largest C int, the limit for descriptors and backlogs."""

_SIZE_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": KIB, "mib": MIB, "gib": GIB}
_SIZE_UNITS_SHOWN = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_TIME_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_WITH_UNIT = re.compile(r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*([A-Za-z]*)\s*", re.ASCII)
_MAX_DURATION = 1e9  # seconds, some 30 years
_MIN_DURATION = 1e-6
_MAX_NUMBER = 2**53
_PATH_MAX = 4095  # bytes; the limit of Linux, other systems have smaller ones
_MAX_WORKERS = 4096
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONNECTION_FIELDS = frozenset(
    ("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
"""Header fields that frame a response or control the connection (RFC 9110 sections 7.6.1 and 8.6): no value is right
for all responses."""
_HANDSHAKE_PREFIX = "sec-websocket-"
_FIELDS = "str | Sequence[str | tuple[str, str]]"


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of an option are parsed and formatted."""

    parse: Callable[[Any], Any]
    """Takes a value or its text and returns the value; raises ValueError, which says what is wrong and what to
    write."""
    show: Callable[[Any], str]
    """Returns the text of a value, which `parse` accepts; "" if the option is not set."""
    metavar: str
    """The name of a value in --help, e.g. SIZE."""
    accepts: str
    """The type of the values for type checkers, as an annotation in `config.keywords`; `parse` may take more."""
    switch: bool = False
    """Whether the option is --name and --no-name, without a value."""
    repeat: bool = False
    """Whether the option may be repeated; `parse` takes a list then."""
    words: tuple[str, ...] = ()
    """The values, or those that are words, for completion in a shell."""
    place: str = ""
    """For completion: "file" for the path of a file, "dir" for that of a folder."""


def text(*, empty: bool = False, printable: bool = False, metavar: str = "TEXT") -> Kind:
    """Text without lone surrogates, and with `printable` without control characters. Error messages do not quote it, as
    it may be secret."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"text is wanted, not {type(value).__name__}")
        if not value and not empty:
            raise ValueError("an empty value means nothing here; leave the option out or give a value")
        if _SURROGATE.search(value):
            raise ValueError("a lone surrogate is no character; write the value in UTF-8")
        if printable and _CONTROL.search(value):
            raise ValueError("a control character, such as a line's end, can't be in it")
        return str.__str__(value)  # a plain str if it is of a subclass

    return Kind(parse, str, metavar, "str")


def path(*, empty: bool = False) -> Kind:
    """The path of a file, whose bytes need not be UTF-8 (PEP 383)."""

    def parse(value: Any) -> str:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(value, str):
            raise ValueError(f"text is wanted, not {type(value).__name__}")
        if not value and not empty:
            raise ValueError("an empty value means nothing here; leave the option out or give a value")
        check_path(value)
        return str.__str__(value)

    return Kind(parse, str, "PATH", "str | PathLike[str]", place="file")


def folder(*, empty: bool = False) -> Kind:
    """The path of a folder."""
    return dataclasses.replace(path(empty=empty), place="dir")


def check_path(value: str) -> None:
    """Raise ValueError for a path that no file can have."""
    try:
        encoded = os.fsencode(value)
    except UnicodeEncodeError:
        raise ValueError(f"{value!r} can't be the name of a file: it has a lone surrogate in it") from None
    if b"\0" in encoded:
        raise ValueError(f"{value!r} can't be the name of a file: it has a NUL in it")
    if len(encoded) > _PATH_MAX:
        raise ValueError(f"{value!r} can't be the name of a file: it has more than {_PATH_MAX} bytes")


def number(low: int, high: int = _MAX_NUMBER, metavar: str = "NUMBER") -> Kind:
    """A whole number from `low` to `high`."""

    def parse(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,20}\s*", value, re.ASCII):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{value!r} is not a whole number {wanted}")
        if value > high and high == _MAX_NUMBER:
            raise ValueError(f"{value!r} is too large; the most is {high}")
        if not low <= value <= high:
            raise ValueError(f"{value!r} is not a whole number {wanted}")
        return int(value)

    wanted = f"from {low} to {high}" if high < _MAX_NUMBER else f"of at least {low}"

    return Kind(parse, str, metavar, "int")


def size(low: int = 1) -> Kind:
    """A number of bytes, at least `low`; as text also with the unit B, kB, MB, GB, KiB, MiB or GiB in any case."""

    def parse(value: Any) -> int:
        amount = value
        if isinstance(value, str):
            match = _WITH_UNIT.fullmatch(value)
            unit = _SIZE_UNITS.get(match[2].lower()) if match else None
            if match and unit:
                amount = int(match[1]) * unit if match[1].isdigit() else float(match[1]) * unit
                amount = int(amount) if amount == int(amount) else value
        if not isinstance(amount, int) or isinstance(amount, bool):
            raise ValueError(f"{value!r} is not a size; write a number of bytes or e.g. 16MiB")
        if not low <= amount <= sys.maxsize:
            raise ValueError(f"{value!r} is out of range; the least is {_show_size(low)}, the most {sys.maxsize}")
        return amount

    return Kind(parse, _show_size, "SIZE", "int | str")


def duration(*, zero: bool = False) -> Kind:
    """A number of seconds above 0, or with `zero` also 0; as text also with the unit ms, s, m (or min), h or d."""

    def parse(value: Any) -> float:
        amount = value
        if isinstance(value, str):
            match = _WITH_UNIT.fullmatch(value)
            unit = _TIME_UNITS.get(match[2].lower()) if match else None
            if match and unit:
                # dividing gives 0.5 for 500ms exactly, multiplying by 0.001 may not
                amount = float(match[1]) / 1000 if unit == 0.001 else float(match[1]) * unit
        if not isinstance(amount, (int, float)) or isinstance(amount, bool) or not abs(amount) < math.inf:
            raise ValueError(f"{value!r} is not a duration; write a number of seconds or e.g. 20s, 500ms, 2m")
        if amount > _MAX_DURATION:
            raise ValueError(f"{value!r} is too long; the most is {_MAX_DURATION:.0f} seconds")
        if amount < 0 or (amount == 0 and not zero):
            raise ValueError(f"{value!r} is too short; write a duration {'of 0 or more' if zero else 'above 0'}")
        if 0 < amount < _MIN_DURATION:
            raise ValueError(f"{value!r} is too short; the least is 0.001ms{' beside 0' if zero else ''}")
        return float(amount) or 0.0  # not -0.0

    return Kind(parse, _show_duration, "DURATION", "float | str")


def choice(*values: str, also: dict[str, str] | None = None) -> Kind:
    """One of `values`, in any case. `also` maps other accepted spellings, also of integers, to values."""

    def parse(value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if isinstance(value, int) and not isinstance(value, bool):
            word = str(int(value))
        word = (also or {}).get(word, word)
        if word not in values:
            raise ValueError(f"{value!r} is not one of {', '.join(values)}")
        return word

    integers = " | int" if any(map(str.isdigit, also or ())) else ""
    return Kind(parse, str, "[" + "|".join(values) + "]", _literal(values) + integers, words=values)


def switch() -> Kind:
    """A bool, as --name and --no-name on the command line."""
    words = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True)
    words |= dict.fromkeys(("false", "f", "no", "n", "off", "0"), False)

    def parse(value: Any) -> bool:
        found = words.get(value.strip().lower()) if isinstance(value, str) else value
        if not isinstance(found, bool):
            raise ValueError(f"{value!r} is neither on nor off")
        return found

    return Kind(parse, lambda value: "on" if value else "off", "", "bool", switch=True)


def on_off() -> Kind:
    """A bool that takes a value on the command line: `--name on` or `--name off`."""
    return dataclasses.replace(switch(), metavar="[on|off]", switch=False, words=("on", "off"))


def optional(kind: Kind, *words: str, zero: bool = False) -> Kind:
    """A value of `kind`, or None. `words` are the texts that mean None; `show` returns the first, or "" if there are
    none. If "off" is one of them, False means None too, as it may stand in a file; with `zero`, 0 does."""

    def parse(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value.strip().lower() in words):
            return None
        if value is False and "off" in words:
            return None
        if zero and value in (0, "0"):
            return None
        try:
            return kind.parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {words[0]}" if words else str(error)) from None

    def show(value: Any) -> str:
        return kind.show(value) if value is not None else words[0] if words else ""

    accepts = kind.accepts if "str" in kind.accepts or not words else f"{kind.accepts} | {_literal(words)}"
    return dataclasses.replace(kind, parse=parse, show=show, accepts=f"{accepts} | None", words=(*kind.words, *words))


def _literal(words: tuple[str, ...]) -> str:
    """Return the type of `words`, as an annotation."""
    return "Literal[" + ", ".join(f'"{word}"' for word in words) + "]"


def line_format() -> Kind:
    """A format for access lines (see LineFormat)."""
    plain = text()

    def parse(value: Any) -> str:
        found = str(plain.parse(value))
        LineFormat(found)
        return found

    return Kind(parse, str, "FORMAT", "str")


def header_list() -> Kind:
    """Header fields: pairs (name, value), or texts 'Name: value' with one field a line."""

    def pair(entry: Any) -> tuple[str, str]:
        if isinstance(entry, str):
            name, colon, value = entry.partition(":")
            if not colon:
                raise ValueError(f"{entry!r} is not a header; write 'Name: value'")
            entry = (name.strip(), value.strip())
        match entry:
            case (str(name), str(value)):
                pass
            case _:
                raise ValueError(f"{entry!r} is not a header; write a pair (name, value) of str")
        if not is_token(name):
            raise ValueError(f"{name!r} can't be the name of a header (RFC 9110 section 5.6.2)")
        if name.lower() in _CONNECTION_FIELDS or name.lower().startswith(_HANDSHAKE_PREFIX):
            raise ValueError(f"{name!r} can't be the same in every response; the server sends it where it belongs")
        if not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"{value!r} can't be the value of a header: a control character, or not Latin-1")
        return str.__str__(name), str.__str__(value)

    def parse(value: Any) -> tuple[tuple[str, str], ...]:
        if isinstance(value, str):
            value = [line for line in value.splitlines() if line.strip()]
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"a list of pairs is wanted, not {type(value).__name__}")
        return tuple(pair(entry) for entry in value)

    return Kind(parse, lambda value: "\n".join(f"{n}: {v}" for n, v in value), "'NAME: VALUE'", _FIELDS, repeat=True)


def _show_size(value: int) -> str:
    for factor, unit in _SIZE_UNITS_SHOWN:
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return str(value)


def _show_duration(value: float) -> str:
    for factor, unit in ((3600, "h"), (60, "m")):
        if value and value % factor == 0:
            return f"{value / factor:.0f}{unit}"
    milliseconds = f"{value * 1000:g}"
    if 0 < value < 1 and float(milliseconds) / 1000 == value:
        return f"{milliseconds}ms"
    return format(Decimal(repr(value)), "f").removesuffix(".0") + "s"  # all digits, no exponent


def url_path(*, prefix: bool = False) -> Kind:
    """The path of a URL. A `prefix` of paths may be empty, and slashes at its end are removed."""
    plain = text(empty=prefix, printable=True)

    def parse(value: Any) -> str:
        found = str(plain.parse(value))
        if found and not found.startswith("/"):
            raise ValueError(f"{value!r} must start with a slash, e.g. {'/' + found!r}")
        if not prefix and ("?" in found or "#" in found):
            raise ValueError(f"{value!r} must be a path only, without '?' and '#'")
        return found.rstrip("/") if prefix else found

    return Kind(parse, str, "PATH", "str")


def several(
    one: Callable[[Any], Any],
    metavar: str,
    between: str | None = r"[,\s]+",
    shown: str = ",",
    also: type | None = None,
) -> Kind:
    """A list of entries that `one` parses: a list, or a text with entries separated by the pattern `between`; on the
    command line the option may also be repeated. `shown` separates them in the formatted text. `also` is a type that an
    entry may have besides str."""
    wanted = (str,) if also is None else (str, also)
    entry = "str" if also is None else f"str | {also.__name__}".replace("PathLike", "PathLike[str]")

    def parse(value: Any) -> tuple[Any, ...]:
        entries = [value] if isinstance(value, wanted) else value
        if not isinstance(entries, (list, tuple)):
            raise ValueError(f"a list is wanted, not {type(value).__name__}")
        for each in entries:
            if not isinstance(each, wanted):
                raise ValueError(f"{each!r} can't stand in the list, which is one of texts")
        if between is not None and (isinstance(value, str) or between == r"[,\s]+"):
            entries = [
                part for each in entries for part in (re.split(between, each) if isinstance(each, str) else [each])
            ]
        return tuple(dict.fromkeys(one(each) for each in entries if each != ""))

    return Kind(parse, lambda value: shown.join(map(str, value)), metavar, f"{entry} | Sequence[{entry}]", repeat=True)


def _text_entry(value: Any) -> str:
    return str(text().parse(os.fspath(value) if isinstance(value, os.PathLike) else value))


def paths() -> Kind:
    """Paths of folders or files, separated by os.pathsep in one text."""
    kind = several(path().parse, "PATH", re.escape(os.pathsep), os.pathsep, os.PathLike)
    return dataclasses.replace(kind, place="dir")


def patterns() -> Kind:
    """Patterns of file names, as for fnmatch."""
    return several(_text_entry, "PATTERN", also=os.PathLike)


def worker_count() -> Kind:
    """A number of processes; auto means the number of CPUs that this process may use."""
    plain = number(1, _MAX_WORKERS)

    def parse(value: Any) -> int:
        if isinstance(value, str) and value.strip().lower() == "auto":
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            return int(plain.parse(value))
        except ValueError as error:
            raise ValueError(f"{error}, or auto") from None

    return Kind(parse, str, "NUMBER", f"int | {_literal(('auto',))}", words=("auto",))
