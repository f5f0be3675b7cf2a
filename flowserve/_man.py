"""Build time only: the manual page flowserve(1), made from the declaration of the options.

`python -m flowserve._man` in a checkout writes flowserve/flowserve.1, which pyproject.toml has installed as
share/man/man1/flowserve.1 of the environment; a test holds it to what this module makes. It is written with the macros
of man(7) that groff and mandoc both know.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path

import click

from flowserve.cli import main
from flowserve.cli.help import ABOUT, ABOUT_APP, EXAMPLES, SOURCES, VALUES
from flowserve.cli.subcommands import SUBCOMMANDS, load
from flowserve.config.config import OPTIONS
from flowserve.config.option import Option
from flowserve.version import __version__

PAGE = Path(__file__).parent / "flowserve.1"

_DATE = "2026-11-29"
"""When what is written here was changed last; a page without a date is refused by mandoc's checks."""
_COLUMNS = 70
"""The longest line before hyphens are escaped."""
_EXIT_STATUSES = {
    "0": "after a clean shutdown, also after Ctrl-C or SIGTERM",
    "1": "it can't start: no such application, port in use, bad certificate",
    "2": "a wrong option",
    "3": "the application's lifespan startup failed",
    "130, or ended by SIGTERM": "Ctrl-C, or SIGTERM, before anything was served",
}
"""Of the server; the texts of the other commands say theirs."""
_FILES = {
    "flowserve.toml": "Options, in the current folder; or in the file that --config names.",
    "pyproject.toml": "Options under [tool.flowserve], if there is no flowserve.toml.",
}
"""Where a configuration is read from."""


def manual() -> str:
    """Return the page, in roff."""
    lines = [
        f'.TH FLOWSERVE 1 {_DATE} {_quoted(f"flowserve {__version__}")} "User Commands"',
        ".nh",  # a name of an option is not broken
        ".ad l",
        *_section("Name", [r"flowserve \- serve an ASGI application over HTTP/1.1 and WebSocket"]),
        *_section("Synopsis", list(_synopsis())),
        *_section("Description", [*_paragraph(ABOUT), ".PP", *_paragraph(ABOUT_APP)]),
        *_section("Examples", [line for each in EXAMPLES for line in _entry(_bold(each[0]), each[1])]),
        *_section("Options", [*_paragraph(VALUES), ".PP", *_paragraph(SOURCES), *_options()]),
    ]
    for name in SUBCOMMANDS:
        lines += _section(f"flowserve {name}", list(_command(name)))
    lines += _section(
        "Files", [line for file, text in _FILES.items() for line in _entry(rf"\fI{_text(file)}\fR", text)]
    )
    lines += _section(
        "Exit status", [line for each in _EXIT_STATUSES.items() for line in _entry(_bold(each[0]), each[1])]
    )
    return "\n".join(lines) + "\n"


def _synopsis() -> Iterator[str]:
    commands = {name: load(name) for name in SUBCOMMANDS}
    forms = {"flowserve": "[APP]", **{f"flowserve {name}": _arguments(each) for name, each in commands.items()}}
    for number, (name, arguments) in enumerate(forms.items()):
        if number:
            yield ".br"
        yield rf"\fB{_text(name)}\fR [\fIOPTIONS\fR] {_arguments_shown(arguments)}"


def _arguments(command: click.Command) -> str:
    context = click.Context(command, **command.context_settings)
    return " ".join(each.make_metavar(context) for each in command.params if isinstance(each, click.Argument))


def _arguments_shown(arguments: str) -> str:
    return re.sub(r"[A-Z]+", r"\\fI\g<0>\\fR", arguments)


def _options() -> Iterator[str]:
    group = ""
    for option in OPTIONS.values():
        if option.group != group:
            group = option.group
            yield f".SS {_quoted(group)}"
        yield from _entry(_flag(option), _explained(option))
    yield ".SS Other"
    yield from _own_options(main, OPTIONS)


def _flag(option: Option) -> str:
    if option.kind.switch:
        return rf"{_bold(option.flag)}, {_bold(f'--no-{option.word}')}"
    return rf"{_bold(option.flag)} \fI{_text(option.kind.metavar)}\fR"


def _explained(option: Option) -> str:
    default = option.kind.show(option.default)
    return f"{option.help} [default: {default}]" if default else option.help


def _command(name: str) -> Iterator[str]:
    command = load(name)
    for number, paragraph in enumerate((command.help or "").strip().split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield from (".nf", *map(_text, paragraph.splitlines()[1:]), ".fi")
        else:
            yield from _paragraph(paragraph)
    if name != "dev":  # its options are those above
        yield from _own_options(command, set())


def _own_options(command: click.Command, others: Collection[str]) -> Iterator[str]:
    """Yield the options of a command without those named in `others`."""
    context = click.Context(command, **command.context_settings)
    for param in command.get_params(context):
        record = param.get_help_record(context) if param.name not in others else None
        if record is not None and isinstance(param, click.Option):
            flags, _, metavar = record[0].partition(" ") if ", " not in record[0] else _split_flags(record[0])
            yield from _entry(_bold(flags) + (rf" \fI{_text(metavar)}\fR" if metavar else ""), record[1])


def _split_flags(shown: str) -> tuple[str, str, str]:
    """Return "-c, --config" and "FILE" for "-c, --config FILE"."""
    found = re.fullmatch(r"(-\w, --[\w-]+)( ?)(.*)", shown)
    assert found is not None, shown
    return found[1], found[2], found[3]


# Roff


def _section(title: str, lines: list[str]) -> list[str]:
    return [f".SH {_quoted(title.upper())}", *lines]


def _entry(term: str, text: str) -> list[str]:
    return [".TP", term, *_paragraph(text)]


def _paragraph(text: str) -> list[str]:
    """Return a text as lines of roff, with each sentence on lines of its own, for the blanks between them."""
    sentences = re.split(r"(?<=[.?!]) +", " ".join(text.split()))
    wrapped = (textwrap.wrap(each, _COLUMNS, break_long_words=False, break_on_hyphens=False) for each in sentences)
    return [_text(line) for lines in wrapped for line in lines]


def _bold(text: str) -> str:
    return rf"\fB{_text(text)}\fR"


def _text(text: str) -> str:
    """Escape what roff would take for something else: backslashes, hyphens of options, a dot or quote at the begin of a
    line."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("^", r"\(ha")
    escaped = escaped.replace("~", r"\(ti").replace("`", r"\(ga")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _quoted(text: str) -> str:
    """Return a text as one argument of a macro."""
    return '"' + _text(text).replace('"', r"\(dq") + '"'


if __name__ == "__main__":
    PAGE.write_text(manual(), "utf-8")
