"""What the WebSockets of a program share: their options, and for each event loop the timers and the output."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Hashable, Mapping
from contextvars import Context as Variables
from typing import Any

from flowserve.config import COMPRESSION, OPTIONS, WEBSOCKET, Config
from flowserve.errors import ConfigError
from flowserve.outbox import Outbox
from flowserve.timers import Timers

_UNLIMITED = {"max_size": 1 << 62, "max_queue": 1 << 30, "close_timeout": 1e9}
"""What stands for None in the options that the websockets library lets be without a limit."""
_NOT_ONE_BY_ONE = ("per_message_deflate", "max_connections")
"""Options with another name here, or which mean nothing for a single WebSocket."""

_shared: dict[asyncio.AbstractEventLoop, tuple[Variables, Outbox, Timers]] = {}


class Home:
    """The `context.Household` of the WebSockets that a program opens with the same options, in one event loop."""

    __slots__ = ("config", "live", "loop", "outbox", "timers", "variables")

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        if loop not in _shared:
            for each in list(_shared):
                if each.is_closed():
                    _shared.pop(each, None)
            _shared[loop] = _make_shared(loop)
        self.variables, self.outbox, self.timers = _shared[loop]
        self.live: set[Any] = set()


def _make_shared(loop: asyncio.AbstractEventLoop) -> tuple[Variables, Outbox, Timers]:
    """What they share; the context variables are none: those of whoever opens a WebSocket are not for its callbacks."""
    variables = Variables()
    return variables, variables.run(Outbox, loop), variables.run(Timers, loop)


def read_options(options: Mapping[str, Any]) -> Config:
    """Return the configuration that keyword arguments describe.

    They are the server's options without their `ws_`, such as max_size, ping_interval or deflate_level; `compression`
    is "deflate" or None; None for max_size, max_queue or close_timeout is no limit. Raises TypeError for an unknown
    one, ConfigError for a wrong value.
    """
    pairs = tuple(sorted(options.items()))
    try:
        hash(pairs)
    except TypeError:  # a value that can't be hashed is wrong, and will be told so
        return _read.__wrapped__(pairs)
    return _read(pairs)


@functools.lru_cache(maxsize=64)
def _read(options: tuple[tuple[str, Hashable], ...]) -> Config:
    values: dict[str, Any] = {}
    for name, value in options:
        if name == "compression":
            if value not in ("deflate", None):
                raise ConfigError(f"compression: {value!r} is neither 'deflate' nor None")
            values["ws_per_message_deflate"] = value is not None
            continue
        option = OPTIONS.get(f"ws_{name}")
        if option is None or option.group not in (WEBSOCKET, COMPRESSION) or name in _NOT_ONE_BY_ONE:
            raise TypeError(f"unexpected keyword argument {name!r}")
        if value is None and name in _UNLIMITED:
            values[option.name] = _UNLIMITED[name]
        else:
            values[option.name] = option.convert(value, name)
    return Config("flowserve.library:none", **values)
