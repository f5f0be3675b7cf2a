"""How the command ends when something is wrong: one line on stderr, and an exit status."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click


def say(line: str, file: Any = None) -> None:
    """Write a line to stderr, if that takes any: what was to be done goes on, and the exit status tells the rest."""
    with suppress(OSError):
        click.echo(line, file=file, err=file is None)


class CannotStart(click.ClickException):
    """Ends the command with a one-line error message and `exit_code`."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        say(f"flowserve: error: {self.format_message()}", file)


class WrongUsage(CannotStart):
    """Wrong usage or a wrong value."""

    exit_code = 2


class FailedStartup(CannotStart):
    """The application's lifespan startup failed."""

    exit_code = 3
