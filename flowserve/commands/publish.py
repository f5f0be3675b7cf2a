"""The command `flowserve publish TOPIC [TEXT]`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import click

from flowserve.commands.connect.lines import read_lines
from flowserve.commands.endpoint import option
from flowserve.config.config import OPTIONS
from flowserve.errors import FlowserveError, TopicsError
from flowserve.grammar import without_passwords
from flowserve.runtime.event_loop import run_in_loop
from flowserve.topics import connect

_HELP = """Publish TEXT to TOPIC, or each line of the input as a message.

It reaches the clients of all servers with the same --topics-url, and prints the position of each message.

\b
flowserve publish news "We are back" --topics-url redis://127.0.0.1
tail -f app.log | flowserve publish log --topics-url redis://127.0.0.1

Exit status: 0 if all messages were published, 1 if not, 2 for wrong usage.
"""
_OPTIONS = {
    "topics_url": "What the servers use, redis://HOST for one.",
    "topics_history": "As for the servers: messages of the topic that are kept.",
    "topics_history_size": "As for the servers: bytes of the topic's messages that are kept.",
    "topics_history_age": "As for the servers: time for which a message is kept.",
}


def _publish(
    topic: str,
    text: str | None,
    topics_url: str | None,
    topics_history: int,
    topics_history_size: int,
    topics_history_age: float,
) -> int:
    if topics_url is None:
        raise click.UsageError("--topics-url is missing: where the servers' topics are, e.g. redis://127.0.0.1")
    if text is not None and not _is_utf8(text):
        raise click.UsageError("TEXT is not UTF-8")
    url = topics_url

    async def run() -> None:
        connecting = connect(
            url, history=topics_history, history_size=topics_history_size, history_age=topics_history_age
        )
        async with connecting as topics:
            async for line in _lines() if text is None else _one(text):
                position = await topics.publish(topic, line)
                if not position:
                    raise TopicsError(f"nothing can be reached at {without_passwords(url)}")
                click.echo(position)

    run_in_loop("auto", run)
    return 0


def _is_utf8(text: str) -> bool:
    """Whether an argument of the command line, in which other bytes are lone surrogates, is UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") == text


async def _one(text: str) -> AsyncIterator[str]:
    yield text


async def _lines() -> AsyncIterator[str]:
    """The lines of the input, as they come."""
    number = 0
    async for line in read_lines():
        number += 1
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise FlowserveError(f"line {number} of the input is not UTF-8") from None


def _options() -> Iterator[click.Option]:
    for name, text in _OPTIONS.items():
        made = option([f"--{name.replace('_', '-')}"], OPTIONS[name].kind, OPTIONS[name].default, text)
        made.envvar = f"FLOWSERVE_{name.upper()}"  # as for the server; a URL with a password need not be shown
        yield made


publish = click.Command(
    "publish",
    callback=_publish,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[click.Argument(["topic"]), click.Argument(["text"], required=False), *_options()],
)
