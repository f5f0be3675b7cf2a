"""What flowserve promises of its speed, each as a ratio (or a size) that a run either holds or breaks."""

from __future__ import annotations

from dataclasses import dataclass

from compliance.performance.cases import CASES
from compliance.performance.report import Results, middle, ratio


@dataclass(frozen=True)
class Promise:
    """A figure of `server` in `case` is at most `most` times that of `to` (in `to_case` if given); or `most` itself."""

    case: str
    most: float
    to: str = "uvicorn"
    server: str = "flowserve"
    figure: str = "value"
    to_case: str = ""

    @property
    def text(self) -> str:
        figure = CASES[self.case].figure if self.figure == "value" else self.figure
        of = f"{self.to}'s in {self.to_case}" if self.to_case else f"{self.to}'s" if self.to else ""
        return f"{self.case}: {self.server}'s {figure}, at most {self.most:.2f}{' of ' if of else ''}{of}"

    def seen(self, results: Results) -> float | None:
        """The ratio or size that was measured; None when the run has no figures for it."""
        rounds = results.get(self.case, {}).get(self.server, [])
        if not self.to:
            return middle(rounds, self.figure)
        return ratio(rounds, results.get(self.to_case or self.case, {}).get(self.to, []), self.figure)


TO_UVICORN = {"A": 0.62, "B": 0.10, "C": 0.65, "D": 0.90, "E": 0.30, "G": 0.57, "H": 0.64, "I": 0.70, "J": 0.85}
PROMISES = (
    *(Promise(case, most) for case, most in TO_UVICORN.items()),
    Promise("A", 1.40, "floor"),
    Promise("F", 4.4, ""),
    *(Promise(case, 0.60, "granian") for case in "ABCDEFGHIJ"),
    *(Promise(case, 1.0, figure="p99") for case in TO_UVICORN),
    *(Promise(case, 1.0, server="flowserve-pure") for case in "ABEG"),
    Promise("L", 1.15, "flowserve", to_case="K"),
    *(Promise(case, 0.60, peer) for case in "MO" for peer in ("uvicorn", "websockets")),
    Promise("N", 8.0, ""),
    *(Promise(case, most, to) for case in "PR" for to, most in (("floor", 1.12), ("bun", 1.20), ("manager", 0.40))),
    *(Promise(case, 0.15) for case in "STUV"),
    Promise("R", 1.15, "flowserve", to_case="Q"),
    *(Promise(case, 200, "") for case in "WX"),
    *(Promise(case, 20.0, "") for case in "YZ"),  # 20 µs: 50,000 a second
)


def verdicts(results: Results) -> list[tuple[str, bool]]:
    """A line for each promise that the run has figures for, and whether it holds."""
    found = []
    for promise in PROMISES:
        seen = promise.seen(results)
        if seen is not None:
            found.append((f"{promise.text}: {seen:.2f}", seen <= promise.most))
    return found
