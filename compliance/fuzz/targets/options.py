"""Values of options, as text: what the command line and the environment give.

The first byte chooses the option; the others are the text.

- Only ConfigError is raised, and it names where the value comes from.
- What `show()` makes of a value, or of each entry of a list, is read back as that value, or is empty where the value is
  merely not set.
"""

from __future__ import annotations

from typing import Any

from compliance.fuzz.findings import Broken, require
from flowserve.config.config import OPTIONS
from flowserve.errors import ConfigError

MAX_LEN = 400
_ORIGIN = "FLOWSERVE_IT"
_OPTIONS = sorted(OPTIONS)


def observe(data: bytes) -> Any:
    if not data:
        return None
    option = OPTIONS[_OPTIONS[data[0] % len(_OPTIONS)]]
    text = data[1:].decode("utf-8", "surrogateescape")
    try:
        value = option.convert([text] if option.kind.repeat and data[0] & 128 else text, _ORIGIN)
    except ConfigError as error:
        require(str(error).startswith(f"{_ORIGIN}: "), "an error does not name where the value comes from")
        return str(error)
    shown = option.kind.show(value)
    require(isinstance(shown, str), "a value is not shown as text")
    # entry by entry, as a file has a list: a path may have in it what stands between paths in one text
    text_of: Any = [option.kind.show((each,)) for each in value] if option.kind.repeat else shown
    if text_of:
        again = option.convert(text_of, _ORIGIN)
        if again != value:
            raise Broken(f"{option.word}: what is shown is read back as another value", value, shown, again)
    return option.name, shown, repr(value)
