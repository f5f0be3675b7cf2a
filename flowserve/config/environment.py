"""Environment variables that look as if they were meant for the server, and that it doesn't read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping

from flowserve.config.config import OPTIONS
from flowserve.config.file import APP
from flowserve.config.from_uvicorn import FOREIGN

_OURS = "FLOWSERVE_"
_UVICORNS = "UVICORN_"
_NO_OPTIONS = ("CONFIG", "APP", "PURE", "NO_EXTENSIONS", "ZLIB")
"""What is read beside the options; flowserve/config/README.md has them."""
_OF_TESTS = ("CI", "LONGEST_TEST", "PYTHON27", "SCREENSHOTS", "TEST_LOOP")
_KNOWN = {option.env: option.name for option in OPTIONS.values()} | {
    f"{_OURS}{name}": "" for name in (*_NO_OPTIONS, *_OF_TESTS)
}
_OF_KUBERNETES = re.compile(r"FLOWSERVE_(?:SERVICE_(?:HOST|PORT\w*)|PORT_\d+_\w+)")
"""Variables that Kubernetes sets for a service called flowserve."""


def environment_warnings(environment: Mapping[str, str], given: Collection[str]) -> Iterator[str]:
    """Yield a line for each FLOWSERVE_* variable that is no option, and for each UVICORN_* variable that uvicorn's
    command would read, unless the option in its place is in `given`, the names of those that were."""
    for variable in sorted(environment):
        if variable.startswith(_OURS) and variable not in _KNOWN and not _OF_KUBERNETES.fullmatch(variable):
            yield f"{variable} is not read{_instead(variable.removeprefix(_OURS)) or _nearest(variable)}"
        elif variable.startswith(_UVICORNS) and environment[variable]:
            name = variable.removeprefix(_UVICORNS)
            if name.lower() not in given and (instead := _instead(name)):
                yield f"{variable} is not read{instead}"


def _instead(name: str) -> str:
    """Return what takes the place of a variable of uvicorn's, which ends in `name`; "" if it has none of that name."""
    if foreign := FOREIGN.get(name.lower()):
        if foreign.option is not None:
            return f"; write {OPTIONS[foreign.option].env}"
        return f": {foreign.answer}"
    if name.lower() == APP:
        return f"; write {_OURS}{name}"
    option = OPTIONS.get(name.lower())
    return f"; write {option.env}" if option else ""


def _nearest(variable: str) -> str:
    known = [name for name in _KNOWN if name.removeprefix(_OURS) not in _OF_TESTS]
    matches = difflib.get_close_matches(variable, known, 1, cutoff=0.8)
    return f"; did you mean {matches[0]}?" if matches else "; flowserve --help has all options"
