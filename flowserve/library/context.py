"""What the WebSockets of a program share: their options, and for each event loop the timers, the output and the
time slice."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Hashable, Mapping
from contextvars import Context as Variables
from typing import Any

from flowserve.config import Config
from flowserve.config.config import COMPRESSION, OPTIONS, WEBSOCKET
from flowserve.config.option import Option
from flowserve.errors import ConfigError
from flowserve.session.time_slice import TimeSlice
from flowserve.transport.flush_queue import FlushQueue
from flowserve.transport.timers import Timers

_UNLIMITED = {"max_size": 1 << 62, "max_queue": 1 << 30, "close_timeout": 1e9}
"""What stands for None in the options that the websockets library lets be without a limit."""
_AT_ONCE = 0.001
"""Seconds that stand for a close_timeout of 0."""
_NOT_HERE = {
    "extensions": "permessage-deflate is the only one; see compression and deflate_level and the like",
    "create_connection": "there is one kind of WebSocket; it takes attributes, also those that process_request sets",
    "create_protocol": "there is one kind of WebSocket; it takes attributes, also those that process_request sets",
    "klass": "there is one kind of WebSocket; it takes attributes, also those that process_request sets",
    "extra_headers": "a client has additional_headers, a server headers",
    "read_limit": "how much waits for the program says max_queue",
    "timeout": "see open_timeout and close_timeout",
    "loop": "the running event loop is used",
}
"""Arguments of the websockets library, of today or of its past, with what is here instead."""
_NOT_ONE_BY_ONE = ("per_message_deflate", "max_connections")
"""Options with another name here, or which mean nothing for a single WebSocket."""

_Shared = tuple[Variables, FlushQueue, Timers, TimeSlice]
_shared: dict[asyncio.AbstractEventLoop, _Shared] = {}


class LibraryContext:
    """The `context.SessionContext` of the WebSockets that a program opens with the same options, in one event loop."""

    __slots__ = ("config", "flush_queue", "live", "loop", "timers", "timeslice", "variables")

    metrics = None

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        if loop not in _shared:
            for each in list(_shared):
                if each.is_closed():
                    _shared.pop(each, None)
            _shared[loop] = _make_shared(loop)
        self.variables, self.flush_queue, self.timers, self.timeslice = _shared[loop]
        self.live: set[Any] = set()


def _make_shared(loop: asyncio.AbstractEventLoop) -> _Shared:
    """What they share; the context variables are none: those of whoever opens a WebSocket are not for its callbacks."""
    variables = Variables()
    run = variables.run
    return variables, run(FlushQueue, loop), run(Timers, loop), run(TimeSlice, loop)


def read_options(options: Mapping[str, Any]) -> Config:
    """Return the configuration that keyword arguments describe.

    They are the server's options without their `ws_`, such as max_size, ping_interval or deflate_level; `compression`
    is "deflate" or None. As in the websockets library, None for max_size, max_queue or close_timeout is no limit, and
    of a pair (high, low) for max_queue, or (message, fragment) for max_size, the first counts here. A ping_interval or
    ping_timeout of 0 is none, as None is; a close_timeout of 0 waits for nobody.

    Raises TypeError for an unknown one, ConfigError for a wrong value.
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
            if name == "extensions" and value is None:
                continue
            raise TypeError(unexpected(name))
        values[option.name] = _convert(option, name, _plain(name, value))
    return Config("flowserve.library:none", **values)


def _convert(option: Option, name: str, value: Any) -> Any:
    return _UNLIMITED[name] if value is None and name in _UNLIMITED else option.convert(value, name)


def _plain(name: str, value: Any) -> Any:
    """The value that an option has here for one that the websockets library takes."""
    if name in ("max_size", "max_queue") and isinstance(value, tuple):
        if len(value) != 2 or not all(each is None or type(each) is int for each in value):
            raise ConfigError(f"{name}: {value!r} is no pair of numbers, or None")
        return value[0]
    if value == 0 and type(value) in (int, float):
        return {"ping_interval": None, "ping_timeout": None, "close_timeout": _AT_ONCE}.get(name, value)
    return value


def unexpected(name: str) -> str:
    """What to say of an argument that is none."""
    hint = _NOT_HERE.get(name)
    return f"unexpected keyword argument {name!r}" + (f": {hint}" if hint else "")
