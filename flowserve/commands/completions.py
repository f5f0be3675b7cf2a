"""What a shell completes values of options with, for `shell_complete` of click's parameters."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from flowserve.config.kinds import Kind

Completer = Callable[[click.Context, click.Parameter, str], list["CompletionItem[str]"]]
"""Takes what is typed of a value, and returns what it may become. Items of the type file or dir are for the shell."""


def words(*values: str) -> Completer:
    """Complete one of `values`."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        return [CompletionItem(value) for value in values if value.startswith(incomplete)]

    return complete


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the path of a file."""
    return [CompletionItem(incomplete, type="file")]


def folders(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the path of a folder."""
    return [CompletionItem(incomplete, type="dir")]


def values_of(kind: Kind) -> Completer:
    """Complete a value of this kind."""
    if kind.place:
        return folders if kind.place == "dir" else files
    return words(*kind.words)
