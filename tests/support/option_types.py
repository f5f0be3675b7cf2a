"""flowserve/config/keywords.py, made from the declaration of the options. To write it anew, run this file:
`.venv/bin/python tests/support/option_types.py`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from flowserve.config.config import COMPRESSION, OPTIONS, WEBSOCKET
from flowserve.config.from_uvicorn import FOREIGN, UNSET_BY_NONE
from flowserve.config.option import Option, name_by_keyword
from flowserve.hosting.arguments import is_server_option
from flowserve.library.context import library_option

FILE = Path(__file__).parents[2] / "flowserve" / "config" / "keywords.py"

_HEAD = '''"""The types of the options as keyword arguments, for type checkers and editors; not imported at run time.

Made from the declaration in config.py by tests/support/option_types.py, which writes this file anew when it is run.
"""

from collections.abc import Mapping, Sequence
from configparser import RawConfigParser
from os import PathLike
from typing import IO, Any, Literal, TypedDict

from flowserve.config.addresses import Bind
'''
_DECLARED_BY_SERVE = ("server_header",)
_DECLARED_BY_LIBRARY = ("max_size", "max_queue", "close_timeout")
"""Options that the library takes with a type of its own."""


def render() -> str:
    """Return the text of the file."""
    hosted = {name: each for name, each in OPTIONS.items() if is_server_option(name) and name not in _DECLARED_BY_SERVE}
    names = [each.name.removeprefix("ws_") for each in OPTIONS.values() if each.group in (WEBSOCKET, COMPRESSION)]
    library = {name: option for name in names if (option := library_option(name)) and name not in _DECLARED_BY_LIBRARY}
    others = {name: option for name, option in OPTIONS.items() if name not in hosted}
    classes = (
        ("WebSocketKeywords", "TypedDict", "Of `connect()`, `accept()` and `serve()`.", library),
        ("HostedKeywords", "TypedDict", "Of `serve()`, `Config` and `run()`.", hosted),
        ("ConfigKeywords", "HostedKeywords", "Of `Config` and `run()`.", others),
    )
    bodies = [
        "\n".join((f"class {name}({base}, total=False):", f'    """{doc}"""', "", *_fields(options.items())))
        for name, base, doc, options in classes
    ]
    bodies[-1] = "\n".join((bodies[-1], *_foreign_fields()))
    return "\n\n".join((_HEAD, *(body + "\n" for body in bodies)))


def _foreign_fields() -> Iterable[str]:
    """The keywords of uvicorn, and the words of the command line where they differ from the names."""
    for each in FOREIGN.values():
        yield f"    {each.name}: {each.kind.accepts}"
        answer = f"As {each.answer.strip('`')}." if each.option else f"Has no effect: {each.answer}."
        yield _docstring(name_by_keyword(answer, OPTIONS))
    for option in OPTIONS.values():
        if (word := option.word.replace("-", "_")) != option.name:
            yield f"    {word}: {option.kind.accepts}"
            yield _docstring(f"As {option.name}.")


def _docstring(text: str) -> str:
    return textwrap.indent(textwrap.fill(f'"""{text}"""', 116), "    ")


def _fields(options: Iterable[tuple[str, Option]]) -> Iterable[str]:
    for name, option in options:
        default = option.kind.show(option.default)
        help = name_by_keyword(option.help, OPTIONS) + (f" Default: {default}" if default else "")
        none = " | None" if name in ("host", *UNSET_BY_NONE) and "None" not in option.kind.accepts else ""
        yield f"    {name}: {option.kind.accepts}{none}"
        yield _docstring(help)


if __name__ == "__main__":
    FILE.write_text(render(), "utf-8")
