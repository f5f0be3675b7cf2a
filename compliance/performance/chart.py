"""The results as one SVG picture: a panel a case, a bar a server."""

from __future__ import annotations

from html import escape

from compliance.performance.cases import CASES
from compliance.performance.report import Results, summarise

COLUMNS, PANEL_WIDTH, BAR, TOP, TITLE, MARGIN, LABEL = 2, 440, 16, 64, 30, 16, 100
FULL = 230  # width of the longest bar
COLOURS = {"flowserve": "#0b7285", "flowserve-pure": "#3bc9db", "floor": "#adb5bd"}
OTHERS = "#ced4da"


def text(x: float, y: float, content: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{style}>{escape(content)}</text>'


def panel(left: float, top: float, case: str, rows: list[tuple[str, float]], scale: float) -> list[str]:
    """One case. A bar that would be longer than the panel is cut, with a gap near its end."""
    parts = [text(left, top + 14, f"{case}: {CASES[case].title}", ' font-weight="600"')]
    for place, (server, value) in enumerate(rows):
        y = top + TITLE + place * BAR
        width = max(1.0, min(value / scale, 1.0) * FULL)
        bold = ' font-weight="600"' if server == "flowserve" else ""
        parts.append(text(left + LABEL - 6, y + 10, server, bold, "end"))
        fill = COLOURS.get(server, OTHERS)
        parts.append(f'<rect x="{left + LABEL:.0f}" y="{y:.0f}" width="{width:.1f}" height="{BAR - 4}" fill="{fill}"/>')
        if value > scale:
            cut = left + LABEL + FULL - 18
            parts.append(f'<rect x="{cut:.0f}" y="{y:.0f}" width="5" height="{BAR - 4}" fill="#fff"/>')
        parts.append(text(left + LABEL + width + 5, y + 10, f"{value:,.2f} {CASES[case].unit}", bold))
    return parts


def chart(results: Results) -> str:
    """The picture. In a panel the cheapest server is on top; lengths relate to uvicorn's where it was measured."""
    panels: list[tuple[str, list[tuple[str, float]], float]] = []
    for case, servers in summarise(results).items():
        rows = [(server, row["value"]) for server, row in servers.items() if isinstance(row["value"], float)]
        rows.sort(key=lambda row: row[1])
        if rows:
            uvicorn = dict(rows).get("uvicorn")
            panels.append((case, rows, 1.5 * uvicorn if uvicorn else rows[-1][1]))
    parts: list[str] = []
    y = float(TOP)
    for first in range(0, len(panels), COLUMNS):
        line = panels[first : first + COLUMNS]
        for column, (case, rows, scale) in enumerate(line):
            parts += panel(MARGIN + column * PANEL_WIDTH, y, case, rows, scale)
        y += TITLE + BAR * max(len(rows) for _, rows, _ in line) + 18
    width = COLUMNS * PANEL_WIDTH + MARGIN
    heading = "Server CPU time a message, in microseconds; shorter is better"
    legend = "F is memory. One core for the server. The floor is a uvloop protocol that parses nothing."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y:.0f}" viewBox="0 0 {width} {y:.0f}" '
            'font-family="system-ui, sans-serif" font-size="11" fill="#212529">',
            f'<rect width="{width}" height="{y:.0f}" rx="8" fill="#fff"/>',
            text(MARGIN, 30, heading, ' font-size="16" font-weight="600"'),
            text(MARGIN, 48, legend),
            *parts,
            "</svg>\n",
        ]
    )
