"""The pages of the repository: where they are, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOLDERS = (".github", "flowserve", "tests", "examples", "compliance")


def pages() -> list[str]:
    """Every Markdown file, by its path in the repository; without the results that the commands in compliance write,
    which have a .json file of the same name beside them."""
    found = [*ROOT.glob("*.md"), *(path for folder in _FOLDERS for path in (ROOT / folder).rglob("*.md"))]
    written = [path for path in found if not path.with_suffix(".json").exists()]
    return sorted(path.relative_to(ROOT).as_posix() for path in written)


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def section(page: str, heading: str) -> str:
    """What stands under `heading`, up to the next heading of its level or above it."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,6}} |\Z)", _without_code(read(page)), _BLOCK)
    assert found, f"{page} has no heading {heading!r}"
    start = found.end(1) + 1 + len(heading)
    deeper = re.compile(rf"^#{{1,{len(found[1])}}} ", re.MULTILINE)
    end = deeper.search(_without_code(read(page)), start)
    return read(page)[start : end.start() if end else None]


_BLOCK = re.MULTILINE | re.DOTALL


def blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, _BLOCK)


def _without_code(text: str) -> str:
    """The text with the fenced blocks blanked out, everything at its old place."""
    return re.sub(r"^```.*?^```$", lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=_BLOCK)


def prose(page: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is neither code nor a row of a table."""
    for number, line in enumerate(_without_code(read(page)).splitlines(), 1):
        if line.strip() and not line.startswith(("|", "    ")):
            yield number, line


def headings(page: str) -> list[tuple[int, str]]:
    """Level and text of each heading."""
    found = re.findall(r"^(#{1,6}) (.+)$", _without_code(read(page)), re.MULTILINE)
    return [(len(marks), text) for marks, text in found]


def anchor(heading: str) -> str:
    """The name that GitHub gives to a heading in links."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(page: str) -> list[str]:
    """The targets of all links and images but those to other hosts."""
    targets = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", _without_code(read(page)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def linked(page: str, target: str) -> str:
    """The path in the repository that a link of `page` leads to."""
    path = target.partition("#")[0]
    return (ROOT / page).parent.joinpath(path).resolve().relative_to(ROOT).as_posix() if path else page
