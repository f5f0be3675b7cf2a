"""The command `flowserve topics URL`: what Redis or NATS knows of topics."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

import click

from flowserve.commands.endpoint import one_line, option
from flowserve.commands.figures import show_count, show_seconds, show_size
from flowserve.config.kinds import duration, number
from flowserve.errors import TopicsError
from flowserve.runtime.event_loop import run_in_loop
from flowserve.topics import connect
from flowserve.topics.api.connect import Connection
from flowserve.topics.hub.open import open_inspector
from flowserve.topics.remote.inspection import Inspector, Look, TopicDetail, TopicState

_HELP = """List the topics at URL, which is what the servers have as --topics-url.

It looks twice, --interval apart, for the rates; with --watch again and again. Nothing is changed there.

\b
flowserve topics redis://127.0.0.1
flowserve topics nats://127.0.0.1 --prefix room: --sort messages --limit 5
flowserve topics redis://127.0.0.1 --json | jq '.topics[] | select(.subscribers == 0) .name'

Without URL it is that of FLOWSERVE_TOPICS_URL, so that no password need be shown.

Exit status: 0 if the topics were read, 1 if not, 2 for wrong usage.
"""
_LONGEST_NAME = 60
"""Characters of a name that are shown."""
_LEAST_INTERVAL = 0.1


@dataclass(frozen=True)
class Row:
    """A topic as it is shown. Ages are in seconds, `rate` is messages a second; None is what is not known."""

    name: str
    subscribers: int | None
    processes: int | None
    rate: float
    published: int
    messages: int
    bytes: int
    oldest: float | None
    newest: float | None


@dataclass(frozen=True)
class Listing:
    """What is shown at once."""

    url: str
    answers_in: float
    """Seconds that an answer takes."""
    found: int
    """Topics, of which some are shown."""
    complete: bool
    """Whether there are no more topics that were not looked at."""
    topics: list[Row]


_SORTED_BY: Mapping[str, Callable[[TopicState, float], Any]] = {
    "rate": lambda state, rate: -rate,
    "published": lambda state, rate: -state.published,
    "messages": lambda state, rate: -state.messages,
    "bytes": lambda state, rate: -state.size,
    "name": lambda state, rate: state.name,
}


@dataclass(frozen=True)
class _Request:
    """What is to be shown."""

    prefix: str
    limit: int
    sort: str
    interval: float
    subscribers: bool


# Reading


class _Reader:
    """Makes a listing again and again."""

    def __init__(self, url: str, request: _Request) -> None:
        self._url = url
        self._request = request
        self._before: dict[str, TopicState] = {}
        self._stack = AsyncExitStack()
        self._inspector: Inspector | None = None
        self._connection: Connection | None = None

    async def listing(self) -> Listing:
        """Return the next one, an interval after the one before. Raises TopicsError, from which on it begins anew."""
        try:
            return await self._listing()
        except TopicsError:
            await self.close()
            raise

    async def _listing(self) -> Listing:
        request = self._request
        inspector = self._inspector
        if inspector is None:
            inspector = open_inspector(self._url)
            await inspector.open()
            self._stack.push_async_callback(inspector.close)
            self._inspector, self._before = inspector, _by_name(await inspector.look(request.prefix))
        before = self._before
        await asyncio.sleep(request.interval)
        answers_in = await inspector.round_trip()
        look = await inspector.look(request.prefix)
        self._before = _by_name(look)
        rated = [(each, each.rate(before.get(each.name))) for each in look.topics]
        order = _SORTED_BY[request.sort]
        chosen = sorted(rated, key=lambda pair: (order(*pair), pair[0].name))[: request.limit]
        states = [state for state, _ in chosen]
        details = await inspector.details(states)
        counts = await self._counts([each.name for each in states])
        rows = [
            _row(state, rate, detail, count)
            for (state, rate), detail, count in zip(chosen, details, counts, strict=True)
        ]
        return Listing(inspector.shown, answers_in, len(look.topics), look.complete, rows)

    async def _counts(self, names: Sequence[str]) -> Sequence[int | None]:
        """Return the subscribers of topics, as the servers say."""
        if not self._request.subscribers or not names:
            return [None] * len(names)
        if self._connection is None:
            # the shortest age that there is, so that nothing is set higher than the servers have it
            connecting = connect(self._url, history=0, history_size=0, history_age=0)
            self._connection = await self._stack.enter_async_context(connecting)
        return await asyncio.gather(*(self._connection.count(name) for name in names))

    async def close(self) -> None:
        """End the connections."""
        self._inspector = self._connection = None
        await self._stack.aclose()


def _by_name(look: Look) -> dict[str, TopicState]:
    return {each.name: each for each in look.topics}


def _row(state: TopicState, rate: float, detail: TopicDetail, count: int | None) -> Row:
    return Row(
        state.name,
        count,
        detail.processes,
        rate,
        state.published,
        state.messages,
        state.size,
        detail.oldest,
        detail.newest,
    )


# Showing

_HEADINGS = ("topic", "subscribers", "processes", "msg/s", "published", "kept", "bytes", "oldest", "newest")


def as_text(listing: Listing) -> str:
    """Return a listing as a table."""
    shown, least = len(listing.topics), "" if listing.complete else " or more"
    what = "topic" if listing.found == 1 else "topics"
    head = f"{one_line(listing.url)} answers in {show_seconds(listing.answers_in)}: {listing.found:,}{least} {what}"
    lines = [f"{head}, {shown:,} shown" if shown < listing.found else head]
    if not listing.complete:
        lines.append(f"only {listing.found:,} topics were looked at; --prefix says which")
    if listing.topics:
        rows = [_HEADINGS, *map(_cells, listing.topics)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        lines += ["", *("  ".join(_padded(row, widths)).rstrip() for row in rows)]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    name = one_line(row.name.encode(errors="replace").decode()) or repr(row.name)
    return (
        name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "...",
        "-" if row.subscribers is None else show_count(row.subscribers),
        "-" if row.processes is None else show_count(row.processes),
        f"{row.rate:.1f}" if 0 < row.rate < 9.95 else show_count(row.rate),
        show_count(row.published),
        show_count(row.messages),
        show_size(row.bytes),
        show_seconds(row.oldest),
        show_seconds(row.newest),
    )


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


# The command


async def _watch(next_one: Callable[[], Awaitable[Listing]], show: Callable[[Listing], str], interval: float) -> None:
    """Show one after another until Ctrl-C, also while there is no answer."""
    clears = sys.stdout.isatty()
    text = show(await next_one())
    while True:
        if clears:
            click.clear()
        click.echo(text)
        try:
            text = show(await next_one())
        except TopicsError as error:
            click.echo(f"flowserve: {error}; trying again", err=True)
            await asyncio.sleep(interval)


def _topics(
    url: str, prefix: str, limit: int, sort: str, interval: float, watch: bool, subscribers: bool, as_json: bool
) -> int:
    interval = max(interval, _LEAST_INTERVAL)

    def show(listing: Listing) -> str:
        return json.dumps(asdict(listing)) if as_json else as_text(listing)

    async def run() -> None:
        reader = _Reader(url, _Request(prefix, limit, sort, interval, subscribers))
        try:
            if watch:
                await _watch(reader.listing, show, interval)
            else:
                click.echo(show(await reader.listing()))
        finally:
            await reader.close()

    try:
        run_in_loop("auto", run)
    except KeyboardInterrupt:
        if not watch:
            raise
    return 0


topics = click.Command(
    "topics",
    callback=_topics,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[
        click.Argument(["url"], envvar="FLOWSERVE_TOPICS_URL"),
        click.Option(["--prefix"], default="", metavar="TEXT", help="Only topics whose names begin so."),
        option(["--limit"], number(1, 10_000), 20, "Topics to show."),
        click.Option(
            ["--sort"],
            type=click.Choice(list(_SORTED_BY)),
            default="rate",
            help="What comes first: the most, or the first name. [default: rate]",
        ),
        option(["--interval"], duration(), 1.0, "Time between two looks."),
        click.Option(["--watch"], is_flag=True, help="Go on until Ctrl-C."),
        click.Option(
            ["--subscribers/--no-subscribers"],
            default=True,
            help="Ask the servers for the subscribers of the topics shown. [default: on]",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, in seconds and bytes; a line a look."),
    ],
)
