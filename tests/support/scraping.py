"""Reading a metrics page as Prometheus does, with prometheus-client's own parser."""

from __future__ import annotations

import re
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.helpers import Client, Response

Place = tuple[str, int]


class Figures:
    """The samples of one page."""

    def __init__(self, page: str) -> None:
        self.families = list(text_string_to_metric_families(page))
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The sample with exactly these labels; 0 if there is none, as for a counter that has not begun."""
        name = f"flowserve_{name}"
        assert any(name.startswith(f.name) for f in self.families), name
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def labelled(self, name: str, label: str) -> dict[str, float]:
        """Value of `label` -> the sum of the samples with it."""
        found: dict[str, float] = {}
        for (sample, labels), value in self.samples.items():
            if sample == f"flowserve_{name}":
                key = dict(labels)[label]
                found[key] = found.get(key, 0.0) + value
        return found

    def grown(self, before: Figures, name: str, **labels: str) -> float:
        """How much more the sample is than in `before`."""
        return self.value(name, **labels) - before.value(name, **labels)


def place_in(lines: list[str]) -> Place:
    """Where the log says that the metrics are."""
    (found,) = [match for line in lines if (match := re.search(r"Metrics on http://([\d.]+):(\d+)/metrics$", line))]
    return found[1], int(found[2])


async def get(place: Any, target: str = "/metrics", *headers: str, **options: Any) -> Response:
    """One GET over a connection of its own."""
    client = await Client.connect(place, **options)
    try:
        return await client.get(target, *headers)
    finally:
        await client.aclose()


async def scrape(place: Any, **options: Any) -> Figures:
    """The page that is there now."""
    response = await get(place, **options)
    assert response.status == 200
    return Figures(response.body.decode())
