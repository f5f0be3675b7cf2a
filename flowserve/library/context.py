"""What the WebSockets of a program share: their options and, per event loop, the timers, flush queue and time slice."""

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
from flowserve.session.host import SessionContext
from flowserve.session.time_slice import TimeSlice
from flowserve.transport.flush_queue import FlushQueue
from flowserve.transport.timers import Timers

_UNLIMITED = {"max_size": 1 << 62, "max_queue": 1 << 30, "close_timeout": 1e9}
"""The values used for None, which means no limit in the websockets library, in options that always have a limit
here."""
_NO_CLOSE_TIMEOUT = 0.001
"""Seconds, used for a close_timeout of 0, which is below the option's minimum."""
_REPLACEMENTS = {
    "extensions": "permessage-deflate is the only one; see compression and deflate_level and the like",
    "create_connection": "there is one kind of WebSocket; it takes attributes, also those that process_request sets",
    "create_protocol": "there is one kind of WebSocket; it takes attributes, also those that process_request sets",
    "klass": "there is one kind of WebSocket; it takes attributes, also those that process_request sets",
    "extra_headers": "a client has additional_headers, a server headers",
    "read_limit": "how much waits for the program says max_queue",
    "timeout": "see open_timeout and close_timeout",
    "loop": "the running event loop is used",
    "all_errors": "the error's message has the errors of all addresses",
}
"""Arguments that the websockets library takes or took, and what to use here instead."""
_EXCLUDED_OPTIONS = ("per_message_deflate", "max_connections")
"""Options of the server that have another name here, or no meaning for a single WebSocket."""

_LoopState = tuple[Variables, FlushQueue, Timers, TimeSlice]
_loop_states: dict[asyncio.AbstractEventLoop, _LoopState] = {}


class LibraryContext(SessionContext):
    """That of the WebSockets that a program opens with the same options in one event loop."""

    __slots__ = ("variables",)

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        if loop not in _loop_states:
            for each in list(_loop_states):
                if each.is_closed():
                    _loop_states.pop(each, None)
            _loop_states[loop] = _make_loop_state(loop)
        self.variables, flush_queue, timers, timeslice = _loop_states[loop]
        super().__init__(config, loop, flush_queue, timers, timeslice)


def _make_loop_state(loop: asyncio.AbstractEventLoop) -> _LoopState:
    """Make what all WebSockets of an event loop share. Their callbacks run in an empty context, not in that of the task
    that opens the first one."""
    variables = Variables()
    run = variables.run
    return variables, run(FlushQueue, loop), run(Timers, loop), run(TimeSlice, loop)


def read_options(options: Mapping[str, Any]) -> Config:
    """Return the configuration for the keyword arguments of `connect()`, `serve()` and `accept()`.

    They are the server's WebSocket options without the prefix `ws_`, such as max_size, ping_interval or deflate_level;
    `compression` is "deflate" or None. As in the websockets library, None for max_size, max_queue or close_timeout
    means no limit. Its pairs are accepted, (high, low) for max_queue and (message, fragment) for max_size, but only the
    first number is used. 0 for ping_interval or ping_timeout disables it, as None does; with a close_timeout of 0,
    closing does not wait for the peer.

    Raises TypeError for an unknown argument, ConfigError for a wrong value.
    """
    pairs = tuple(sorted(options.items()))
    try:
        hash(pairs)
    except TypeError:  # an unhashable value is wrong: let its option raise ConfigError
        return _make_config.__wrapped__(pairs)
    return _make_config(pairs)


@functools.lru_cache(maxsize=64)
def _make_config(options: tuple[tuple[str, Hashable], ...]) -> Config:
    values: dict[str, Any] = {}
    for name, value in options:
        if name == "compression":
            if value not in ("deflate", None):
                raise ConfigError(f"compression: {value!r} is neither 'deflate' nor None")
            values["ws_per_message_deflate"] = value is not None
            continue
        option = library_option(name)
        if option is None:
            if name == "extensions" and value is None:
                continue
            raise TypeError(unexpected_argument(name))
        values[option.name] = _convert(option, name, _from_websockets(name, value))
    return Config("flowserve.library:none", **values)


def library_option(name: str) -> Option | None:
    """Return the server's option that has the name `name` here, None if there is none."""
    option = OPTIONS.get(f"ws_{name}")
    known = option is not None and option.group in (WEBSOCKET, COMPRESSION) and name not in _EXCLUDED_OPTIONS
    return option if known else None


def _convert(option: Option, name: str, value: Any) -> Any:
    return _UNLIMITED[name] if value is None and name in _UNLIMITED else option.convert(value, name)


def _from_websockets(name: str, value: Any) -> Any:
    """Convert a value as the websockets library takes it into one that the option of this name takes."""
    if name in ("max_size", "max_queue") and isinstance(value, tuple):
        if len(value) != 2 or not all(each is None or type(each) is int for each in value):
            raise ConfigError(f"{name}: {value!r} is no pair of numbers, or None")
        return value[0]
    if value == 0 and type(value) in (int, float):
        return {"ping_interval": None, "ping_timeout": None, "close_timeout": _NO_CLOSE_TIMEOUT}.get(name, value)
    return value


def unexpected_argument(name: str) -> str:
    """Return the message of the TypeError for an unknown argument."""
    hint = _REPLACEMENTS.get(name)
    return f"unexpected keyword argument {name!r}" + (f": {hint}" if hint else "")
