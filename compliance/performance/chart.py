"""The results as SVG pictures, for light and dark pages: a panel a case, a bar a server."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from pathlib import Path

from compliance.performance.cases import CASES
from compliance.performance.report import Results, summarise

MARGIN, ROW, BAR, TITLE, LABEL, VALUE = 20, 19, 13, 26, 104, 70  # LABEL and VALUE are the room beside a bar
HEADING = "CPU time of the server for one message: shorter is better"
# What each colour of a bar means, with its values in a light and in a dark page.
KEY = {
    "ours": ("flowserve", "#0b7285", "#3bc9db"),
    "variant": ("flowserve, not compiled or with other options", "#66bfcd", "#1d7c8c"),
    "asgi": ("other ASGI servers", "#8c96a3", "#7d8793"),
    "other": ("servers without ASGI", "#c3cad3", "#4d5661"),
    "floor": ("floor: a uvloop protocol that parses nothing", "#e2a458", "#b07a35"),
}
ASGI = (
    *("uvicorn", "uvicorn-zttp", "granian", "hypercorn", "manager", "channels", "channels-pubsub"),
    *("peregrine", "h2corn", "aethonan", "m0serve", "freastal", "fastpysgi"),
)
GROUPS = {"flowserve": "ours", "floor": "floor", **dict.fromkeys(ASGI, "asgi")}
FEW = ("bun", "flowserve", "uvicorn", "granian", "hypercorn", "websockets", "aiohttp")


def style() -> str:
    """The colours. The background is the picture's own: a page may be dark where the system is light."""
    light, dark = ("".join(f".{name}{{fill:{colours[i]}}}" for name, colours in KEY.items()) for i in (1, 2))
    return (
        f"<style>text{{fill:#1f2328}}.back{{fill:#fff}}{light}"
        f"@media(prefers-color-scheme:dark){{text{{fill:#f0f6fc}}.back{{fill:#0d1117}}{dark}}}</style>"
    )


def group(server: str) -> str:
    return GROUPS.get(server, "variant" if server.startswith("flowserve-") else "other")


def text(x: float, y: float, content: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}"{style}>{escape(content)}</text>'


def bar(x: float, y: float, width: float, name: str) -> str:
    return f'<rect class="{name}" x="{x:.0f}" y="{y:.0f}" width="{width:.1f}" height="{BAR}"/>'


def panel(left: float, top: float, width: float, case: str, rows: list[tuple[str, float]]) -> list[str]:
    """One case. A bar that would be longer than three times uvicorn's is cut, with a gap near its end."""
    longest, full, unit = rows[-1][1], width - LABEL - VALUE, CASES[case].unit.partition("/")[0]
    scale = min(longest, 3 * dict(rows).get("uvicorn", longest))
    parts = []
    for place, (server, value) in enumerate(rows):
        y, length = top + place * ROW, max(1.0, min(value / scale, 1.0) * full)
        bold = ' font-weight="600"' if server == "flowserve" else ""
        shown = f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
        parts.append(text(left + LABEL - 8, y + 11, server, f' text-anchor="end"{bold}'))
        parts.append(bar(left + LABEL, y, length, group(server)))
        if value > scale:
            parts.append(bar(left + LABEL + full - 20, y, 5, "back"))
        parts.append(text(left + LABEL + length + 7, y + 11, shown, bold))
    return parts


def key(groups: Collection[str], y: float, right: float) -> tuple[list[str], float]:
    """What the colours mean, in as many lines as that takes, and where the last one is."""
    parts, x = [], float(MARGIN)
    for name in (name for name in KEY if name in groups):
        size = 19 + 7 * len(KEY[name][0])  # about
        if x + size > right:
            x, y = float(MARGIN), y + ROW
        parts += [bar(x, y, BAR, name), text(x + 19, y + 11, KEY[name][0])]
        x += size + 10
    return parts, y


def chart(results: Results, cases: Collection[str], servers: Collection[str], columns: int, width: float) -> str:
    """The picture of these cases and servers, in panels of `width`. In each the cheapest server is on top."""
    panels: list[tuple[str, list[tuple[str, float]]]] = []
    for case, measured in summarise({case: results[case] for case in cases if case in results}).items():
        values = {server: row["value"] for server, row in measured.items() if server in servers}
        rows = [(server, value) for server, value in values.items() if isinstance(value, float)]
        if rows:
            panels.append((case, sorted(rows, key=lambda row: row[1])))
    whole = columns * (width + MARGIN) + MARGIN
    parts, y = key({group(server) for _, rows in panels for server, _ in rows}, 52, whole - MARGIN)
    y += ROW + 18
    for first in range(0, len(panels), columns):
        line = panels[first : first + columns]
        for column, (case, rows) in enumerate(line):
            left, title = MARGIN + column * (width + MARGIN), CASES[case].title
            title = f"{case}: {title}" if len(panels) > 1 else title
            parts += [text(left, y + 13, title, ' font-weight="600"'), *panel(left, y + TITLE, width, case, rows)]
        y += TITLE + ROW * max(len(rows) for _, rows in line) + 16
    size = f'width="{whole:.0f}" height="{y:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {whole:.0f} {y:.0f}" role="img" '
            f'font-family="system-ui, sans-serif" font-size="13"><title>{HEADING}</title>{style()}',
            f'<rect class="back" {size} rx="8"/>',
            text(MARGIN, 34, HEADING, ' font-size="17" font-weight="600"'),
            *parts,
            "</svg>\n",
        ]
    )


def draw(results: Results, folder: Path) -> None:
    """Write chart.svg, many messages in flight on a few servers, and charts.svg, all cases and servers."""
    every = {server for servers in results.values() for server in servers}
    (folder / "chart.svg").write_text(chart(results, "B", FEW, columns=1, width=540), "utf-8")
    (folder / "charts.svg").write_text(chart(results, [*CASES], every, columns=2, width=420), "utf-8")
