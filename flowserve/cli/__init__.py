"""The command `flowserve`: what it takes, where the application is, help, completion of its arguments in shells."""

from flowserve.cli.command import main

__all__ = ["main"]
