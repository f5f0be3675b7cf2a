"""What of uvicorn's options flowserve does not have, and what is said of each: for the command line, the keywords of
`Config` and the configuration file.

All other options of uvicorn have their name here too. examples/coming-from-uvicorn.md lists them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowserve.config.kinds import Kind, choice, number, optional, size, switch
from flowserve.config.option import parse


@dataclass(frozen=True, slots=True)
class ForeignOption:
    """An option of uvicorn, which is accepted without being one of `Config`'s."""

    name: str
    """uvicorn's keyword."""
    kind: Kind
    """How its values are parsed."""
    answer: str
    """What is said of a value that has no effect here. Where `option` is set, what the table in the documentation
    says."""
    default: tuple[Any, ...] = ()
    """The values that ask for what flowserve does anyway, of which nothing is said."""
    option: str | None = None
    """The option of flowserve that takes the value instead."""
    answers: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    """Answers to values of which `answer` is not true."""

    @property
    def word(self) -> str:
        """The name on the command line, e.g. ssl-version."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """The option on the command line, e.g. --ssl-version."""
        return "--" + self.word

    def warning(self, value: Any, where: str | None = None) -> str | None:
        """Return the line to say about `value`, which names `where`, by default the flag; None if there is nothing to
        say. Raises ConfigError for a value that flowserve can't do without."""
        where = where or self.flag
        parsed = parse(self.kind, value, where)
        if self.option is not None or parsed in self.default:
            return None
        shown = f" {self.kind.show(parsed)}" if not self.kind.switch else ""
        return f"{where}{shown} has no effect: {self.answers.get(parsed, self.answer)}"


def _protocol(*values: str) -> Kind:
    """The name of one of uvicorn's protocol implementations. Classes are refused: a program that names one relies on
    it."""
    known = choice(*values)

    def parse(value: Any) -> str:
        try:
            return str(known.parse(value))
        except ValueError as error:
            shown = value.__qualname__ if isinstance(value, type) else None
            said = f"the class {shown} is not used" if shown else str(error)
            raise ValueError(f"{said}; flowserve runs its own implementation only, leave it out") from None

    return dataclasses.replace(known, parse=parse)


_ONE_IMPLEMENTATION = "flowserve has one {} implementation; leave it out"
_SERVER_VERSIONS = (2, 17)
"""ssl.PROTOCOL_TLS and ssl.PROTOCOL_TLS_SERVER, whose values are OpenSSL's business: every version from TLS 1.2 on."""
_MOST_VERSION = 17

FOREIGN: dict[str, ForeignOption] = {
    each.name: each
    for each in (
        ForeignOption(
            "http", _protocol("auto", "h11", "httptools", "zttp"), _ONE_IMPLEMENTATION.format("HTTP"), ("auto",)
        ),
        ForeignOption(
            "http2", switch(), "flowserve speaks HTTP/1.1, which clients fall back to; leave it out", (False,)
        ),
        ForeignOption(
            "ws",
            _protocol("auto", "none", "websockets", "websockets-sansio", "wsproto"),
            _ONE_IMPLEMENTATION.format("WebSocket"),
            ("auto",),
            answers={"none": "WebSockets are always served; an application that knows none denies them with 403"},
        ),
        ForeignOption(
            "ssl_version",
            number(0, _MOST_VERSION),
            "TLS 1.2 and 1.3 are spoken; --ssl-version-min sets the oldest",
            _SERVER_VERSIONS,
        ),
        ForeignOption(
            "reset_contextvars",
            switch(),
            "each request runs in context variables of its own, without those of the lifespan; leave it out",
            (False,),
        ),
        ForeignOption(
            "h11_max_incomplete_event_size", optional(size()), "`--h1-max-header-size`", option="h1_max_header_size"
        ),
    )
}
"""By uvicorn's keyword."""

UNSET_BY_NONE = frozenset(
    (
        *("workers", "timeout_graceful_shutdown", "forwarded_allow_ips", "headers", "log_level", "app_dir"),
        *("reload_dirs", "reload_includes", "reload_excludes"),
    )
)
"""Options for which uvicorn's keyword may be None, for the default, which is another value here."""

DEFAULTS_FROM: dict[str, str] = {"WEB_CONCURRENCY": "workers", "FORWARDED_ALLOW_IPS": "forwarded_allow_ips"}
"""Environment variables that many servers read, and the options whose defaults they set."""


def one_worker_for_reload(options: Mapping[str, Any]) -> str | None:
    """Return the line to say if `options` ask for both reload and workers: as in uvicorn, reload has one."""
    try:
        reload = switch().parse(options.get("reload", False))
    except ValueError:
        return None  # said where the value is checked
    if not reload or options.get("workers", 1) in (1, "1"):
        return None
    return "workers has no effect with reload, which is for development and has one; leave one of them out"
