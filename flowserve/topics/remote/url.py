"""What URLs of servers elsewhere have in common."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from flowserve.errors import ConfigError
from flowserve.grammar import has_stray_brackets, without_passwords

_LEAST_TIME, _LONGEST_TIME = 0.05, 3600.0


class URLParser:
    """Reads a URL. All methods raise ConfigError that says what is wrong with it."""

    def __init__(self, url: str, schemes: Sequence[str]) -> None:
        self.shown = without_passwords(url)
        """The URL without passwords."""
        try:
            self.parts = urlsplit(url)
        except ValueError as error:
            self.fail(str(error))
        if self.parts.scheme not in schemes or "://" not in url:
            self.fail(f"it begins with one of {', '.join(f'{scheme}://' for scheme in schemes)}")
        if self.parts.fragment:
            self.fail("write # as %23")
        self.query: dict[str, str] = {}
        """The parameters, from `read_query()` on."""

    def fail(self, what: str) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(f"the URL {self.shown!r} is wrong: {what}")

    def read_query(self, known: Collection[str], tls_schemes: Sequence[str]) -> None:
        """Read the parameters, of which these are known. Those of TLS are for `tls_schemes` alone."""
        self.query = dict(parse_qsl(self.parts.query, keep_blank_values=True))
        for name, value in self.query.items():
            if name not in known:
                self.fail(f"there is no parameter {name!r}; there are {', '.join(known)}")
            if name.startswith("ssl_") and self.parts.scheme not in tls_schemes:
                *most, last = [f"{scheme}://" for scheme in tls_schemes]
                self.fail(f"{name} is for TLS: {' or '.join(filter(None, (', '.join(most), last)))}")
            if not value:
                self.fail(f"{name} has no value")

    def check_files(self, names: Collection[str]) -> None:
        """See to it that the files are there that these parameters name."""
        for name in names:
            if name in self.query and not os.path.exists(self.query[name]):
                self.fail(f"{name}: there is no {self.query[name]}")

    def address(self, text: str, port: int, host: str = "") -> tuple[str, int]:
        """Return the host and the port of HOST:PORT. `port` and `host` are the defaults; without the latter a host has
        to be there."""
        try:
            parts = urlsplit(f"//{text}")
            found = port if parts.port is None else parts.port
        except ValueError:
            found = 0
        if has_stray_brackets(text) or not found or not (parts.hostname or (host and not text)):
            self.fail(f"{text!r} is not HOST:PORT")
        return unquote(parts.hostname or host), found

    def check_user(self, text: str) -> None:
        """See to it that what stands before the host is no part of another place."""
        if "@" in text or "/" in text:
            self.fail("write @ in a name or password as %40")

    def seconds(self, name: str, default: float) -> float:
        """Return a parameter that is a time."""
        try:
            value = float(self.query.get(name, default))
        except ValueError:
            value = math.nan
        if not _LEAST_TIME <= value <= _LONGEST_TIME:
            self.fail(f"{name} is a number of seconds from {_LEAST_TIME} to {_LONGEST_TIME:.0f}")
        return value
