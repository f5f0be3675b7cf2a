"""The words that stand in place of APP and run another command."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click


class Subcommand(NamedTuple):
    """Where a command is."""

    module: str
    attribute: str
    help: str
    """What it does, in a line."""


SUBCOMMANDS = {
    "dev": Subcommand("flowserve.cli.command", "dev", "Serve APP while you write it: reload, debug log."),
    "connect": Subcommand("flowserve.commands.connect.command", "talk", "Talk to a WebSocket server."),
    "bench": Subcommand("flowserve.commands.bench.command", "bench", "Put an echo server, or topics, under load."),
    "publish": Subcommand("flowserve.commands.publish", "publish", "Publish to a topic."),
    "topics": Subcommand("flowserve.commands.topics", "topics", "List topics: subscribers, rates, histories."),
    "top": Subcommand("flowserve.commands.top", "top", "Watch a running server in the terminal."),
}
"""By name. A module of such a name is served as e.g. dev.py or dev:app."""


def load(name: str) -> click.Command:
    """Import one of `SUBCOMMANDS`, which other commands need not wait for."""
    found: click.Command = getattr(importlib.import_module(SUBCOMMANDS[name].module), SUBCOMMANDS[name].attribute)
    return found
