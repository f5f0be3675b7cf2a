"""What a fuzzer finds: a broken property, or an exception that nobody has named."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, NamedTuple

_SHOWN = 300
_BEFORE = 40
"""Characters that are shown of what is still the same."""


class Broken(AssertionError):
    """A property of a target does not hold. `what` is the same for all inputs that break it in the same way."""

    def __init__(self, what: str, *details: Any) -> None:
        shown = "".join(f"\n  {repr(each)[:_SHOWN]}" for each in details)
        super().__init__(what + shown)
        self.what = what


def apart(one: Any, other: Any) -> tuple[str, str]:
    """Return what `repr()` shows of two values from shortly before they begin to differ, for the details of Broken."""
    shown = repr(one), repr(other)
    same = next((at for at, pair in enumerate(zip(*shown, strict=False)) if pair[0] != pair[1]), min(map(len, shown)))
    start = max(0, same - _BEFORE)
    return shown[0][start:], shown[1][start:]


def require(holds: bool, what: str, *details: Any) -> None:
    """Raise Broken unless it `holds`."""
    if not holds:
        raise Broken(what, *details)


class Finding(NamedTuple):
    """`kind` tells findings apart; `text` is what a person reads."""

    kind: str
    text: str

    @classmethod
    def of(cls, error: BaseException) -> Finding:
        """What an exception out of a target says."""
        if isinstance(error, Broken):
            return cls(error.what, str(error))
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "/flowserve/" in frame.filename] or frames
        name = type(error).__name__
        where = f"{Path(own[-1].filename).name}: {own[-1].name}" if own else "nowhere"
        return cls(f"{name} in {where}", "".join(traceback.format_exception(error)))
