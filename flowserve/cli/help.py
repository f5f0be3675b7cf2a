"""The help of `flowserve`: what matters first, one group of options, those that a word is found in, or all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click

from flowserve.cli.subcommands import SUBCOMMANDS, load
from flowserve.config.config import COMPRESSION, OPTIONS, PROXIES
from flowserve.config.option import Option
from flowserve.errors import ConfigError

FIRST = (
    "host",
    "port",
    "bind",
    "workers",
    "reload",
    "app_dir",
    "factory",
    "log_level",
    "ssl_certfile",
    "ssl_keyfile",
)
"""The options that --help shows."""
SHORT, ALL = "short", "all"
"""Topics: what --help shows without a topic, and every option."""

_WORDS = {COMPRESSION: "compression", PROXIES: "proxy"}
"""The topics of groups whose title does not begin with a good one."""
_NO_BREAK = "\xa0"  # keeps a default on one line when the help is wrapped

ABOUT = "Serve APP, an ASGI application, over HTTP/1.1 and WebSocket."
ABOUT_APP = """APP is a file, a folder, a module, or module:attribute. Where there is no attribute it is app,
application, create_app() or the only application in the file. Without APP it is looked for in main.py, app.py, api.py,
asgi.py, in the project of a manage.py, and in packages."""
EXAMPLES = (
    ("flowserve main.py", "on http://127.0.0.1:8000"),
    ("flowserve dev", "anew whenever a file changes"),
    ("flowserve main:app --host 0.0.0.0", "for other machines too"),
    ("flowserve main:app --workers auto", "in as many processes as there are CPUs"),
)
VALUES = "Sizes are bytes, or take a unit: 64kB, 16MiB. Durations are seconds, or take a unit: 500ms, 30s, 2m, 1h."
SOURCES = """Every option can come from the environment too: FLOWSERVE_WS_MAX_SIZE=1MiB is --ws-max-size 1MiB,
FLOWSERVE_ACCESS_LOG=off is --no-access-log, FLOWSERVE_APP is APP; and from a file: in flowserve.toml, or under
[tool.flowserve] in pyproject.toml, ws-max-size = "1MiB". The command line goes before the environment, that before the
file."""


def topics() -> dict[str, str]:
    """Return the titles of the groups of options, by the word that --help takes for each."""
    groups = dict.fromkeys(option.group for option in OPTIONS.values())
    return {_WORDS.get(group) or group.split()[0].lower(): group for group in groups}


def help_text(ctx: click.Context, topic: str = SHORT) -> str:
    """Return the help about a topic: `SHORT`, `ALL`, a group, a subcommand, or a word that is found in options. Raises
    ConfigError for another one."""
    word = topic.strip().strip("-").lower()
    if word in SUBCOMMANDS:
        command = load(word)
        settings = {**command.context_settings, "max_content_width": 110}
        text = command.get_help(click.Context(command, info_name=f"flowserve {word}", **settings))
        return f"{text}\n\n{_of_word(ctx, word)}" if word in topics() else text
    formatter = ctx.make_formatter()
    if word == SHORT or ":" in word or word.endswith(".py"):  # flowserve --help main:app
        _write_short(ctx, formatter)
    elif word == ALL:
        _write_all(ctx, formatter)
    else:
        return _of_word(ctx, word)
    return _finished(formatter)


def _of_word(ctx: click.Context, word: str) -> str:
    formatter = ctx.make_formatter()
    _write_groups(formatter, _grouped(ctx, _matching(word)))
    return _finished(formatter)


def _finished(formatter: click.HelpFormatter) -> str:
    return formatter.getvalue().rstrip("\n").replace(_NO_BREAK, " ")


def _matching(word: str) -> list[Option]:
    """Return the options of a group, or those in whose name or text a word is found."""
    group = topics().get(word)
    chosen = [option for option in OPTIONS.values() if option.group == group]
    chosen = chosen or [option for option in OPTIONS.values() if word and word in option.word]
    chosen = chosen or [option for option in OPTIONS.values() if word and word in option.help.lower()]
    if not chosen:
        raise ConfigError(f"--help {word}: no option has to do with it; write --help all, or {', '.join(topics())}")
    return chosen


def _write_short(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    _write_head(ctx, formatter)
    sections = {
        "Options to begin with": [help_record(OPTIONS[name], ctx) for name in FIRST],
        "Other": _own_records(ctx),
        "Commands": [(f"flowserve {name}", each.help) for name, each in SUBCOMMANDS.items()],
        f"All {len(OPTIONS)} options": [
            ("--help GROUP", f"{', '.join(topics())}."),
            ("--help WORD", "Those that have to do with a word, e.g. timeout."),
            (f"--help {ALL}", "Every option, and where values can come from."),
        ],
    }
    _write_groups(formatter, sections, 24)


def _write_all(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    _write_head(ctx, formatter)
    sections = _grouped(ctx, OPTIONS.values())
    sections["Other"] = _own_records(ctx)
    sections["Commands"] = [(f"flowserve {name}", each.help) for name, each in SUBCOMMANDS.items()]
    _write_groups(formatter, sections, 40 if formatter.width >= 100 else 30)
    for text in (VALUES, SOURCES):
        formatter.write_paragraph()
        formatter.write_text(" ".join(text.split()))


def _write_head(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    ctx.command.format_usage(ctx, formatter)
    ctx.command.format_help_text(ctx, formatter)


def _write_groups(
    formatter: click.HelpFormatter, groups: Mapping[str, list[tuple[str, str]]], widest: int = 30
) -> None:
    # one width for all groups, so that the help texts are aligned
    width = min(widest, max(len(left) for rows in groups.values() for left, _ in rows))
    for title, rows in groups.items():
        with formatter.section(title):
            formatter.write_dl([(left.ljust(width), right) for left, right in rows], widest)


def _grouped(ctx: click.Context, options: Iterable[Option]) -> dict[str, list[tuple[str, str]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for option in options:
        groups.setdefault(option.group, []).append(help_record(option, ctx))
    return groups


def _own_records(ctx: click.Context) -> list[tuple[str, str]]:
    params = (param for param in ctx.command.get_params(ctx) if param.name not in OPTIONS)
    return [record for param in params if (record := param.get_help_record(ctx)) and isinstance(param, click.Option)]


def help_record(option: Option, ctx: click.Context | None = None) -> tuple[str, str]:
    """Return the option with its value, and its explanation with the default, which may be the command's own."""
    left = f"--[no-]{option.word}" if option.kind.switch else f"{option.flag} {option.kind.metavar}"
    presets = getattr(ctx.command, "presets", {}) if ctx is not None else {}
    default = option.kind.show(presets.get(option.name, option.default))
    return left, f"{option.help} [default:{_NO_BREAK}{default}]" if default else option.help
