"""The samples as one SVG picture: a column a server, a panel a metric."""

from __future__ import annotations

from html import escape

from compliance.soak.samples import METRICS, Series, Verdict, verdicts

WIDTH, HEIGHT, GAP, TOP, MARGIN = 420, 84, 34, 84, 16
LINE, BAD, SECOND_HALF = "#0b7285", "#c92a2a", "#f1f3f5"


def text(x: float, y: float, content: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}"{style}>{escape(content)}</text>'


def panel(left: float, top: float, series: Series, verdict: Verdict) -> list[str]:
    """One metric over time, from zero to its largest value."""
    metric, values, times = METRICS[verdict.metric], series.values[verdict.metric], series.seconds
    highest, last = max(*values, 1e-9), times[-1]
    points = " ".join(
        f"{left + WIDTH * at / last:.1f},{top + HEIGHT * (1 - value / highest):.1f}"
        for at, value in zip(times, values, strict=True)
    )
    begin = left + WIDTH * times[len(times) // 2] / last
    sign = "flat" if verdict.flat else "NOT FLAT"
    said = f"{metric.title}: {verdict.median:g} {metric.unit}, {sign} ({verdict.growth:+.2f} in the second half)"
    return [
        text(left, top - 6, said, ' font-weight="600"'),
        f'<rect x="{begin:.1f}" y="{top}" width="{left + WIDTH - begin:.1f}" height="{HEIGHT}" fill="{SECOND_HALF}"/>',
        f'<path d="M{left} {top}v{HEIGHT}h{WIDTH}" fill="none" stroke="#adb5bd"/>',
        f'<polyline points="{points}" fill="none" stroke="{LINE if verdict.flat else BAD}" stroke-width="1.2"/>',
        text(left + 4, top + 11, f"{highest:g}", ' fill="#868e96"'),
    ]


def chart(all_series: list[Series], minutes: float) -> str:
    """The picture. The second half, by which it is judged, is shaded."""
    parts: list[str] = []
    for column, series in enumerate(all_series):
        left = MARGIN + column * (WIDTH + MARGIN)
        heading = f"{series.name}: {series.messages:,} messages, {series.clients:,} clients"
        parts.append(text(left, 52, heading, ' font-size="13" font-weight="600"'))
        for row, verdict in enumerate(verdicts(series)):
            parts += panel(left, TOP + row * (HEIGHT + GAP), series, verdict)
    width = MARGIN + len(all_series) * (WIDTH + MARGIN)
    height = TOP + len(METRICS) * (HEIGHT + GAP)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="system-ui, sans-serif" font-size="11" fill="#212529">',
            f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>',
            text(MARGIN, 28, f"{minutes:g} minutes of mixed traffic", ' font-size="16" font-weight="600"'),
            *parts,
            "</svg>\n",
        ]
    )
