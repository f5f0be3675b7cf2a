"""The Grafana dashboard: well-formed, and about metrics that a server has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.helpers import echo
from support.scraping import place_in, scrape

from flowserve.metrics import FAMILIES

DASHBOARD: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "examples" / "grafana" / "flowserve.json").read_text("utf-8")
)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
FROM_PROMETHEUS = {"job", "instance", "le"}


def expressions() -> Iterator[str]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield target["expr"]


def test_every_variable_is_declared():
    text = json.dumps(DASHBOARD)
    used = set(re.findall(r"\$\{?([a-z]\w*)\}?", text)) - {"__rate_interval"}
    assert used == set(VARIABLES)


async def test_every_metric_is_one_that_the_server_has(serve, logs):
    await serve(echo, metrics="127.0.0.1:0")
    figures = await scrape(place_in(logs.lines()))
    there = {family.name + suffix for family in figures.families for suffix in SUFFIXES[family.type]}
    queries = [*expressions(), *(v["query"]["query"] for v in VARIABLES.values() if v["type"] == "query")]
    named = {name for query in queries for name in re.findall(r"\bflowserve_\w+", query)}
    assert len(named) > 20
    assert named <= there


def test_every_label_is_one_that_the_metrics_have():
    for expression in expressions():
        for name in re.findall(r"\bflowserve_\w+", expression):
            family = FAMILIES.get(name) or FAMILIES[re.sub(r"_(bucket|sum|count)$", "", name)]
            has = FROM_PROMETHEUS | set(family.labels) | ({"worker"} if family.per_worker else set())
            used = re.findall(r"(\w+)=~?\"", expression)
            for by in re.findall(r"\bby \(([^)]*)\)", expression):
                used += by.split(", ")
            assert set(used) <= has, expression


def test_legends_name_labels_that_the_query_keeps():
    for panel in PANELS:
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", target["expr"]))))
            assert wanted == kept - {"le"}, target


def test_rates_of_counters_only():
    for expression in expressions():
        for name in re.findall(r"(?:rate|increase)\((flowserve_\w+)", expression):
            assert name.endswith(("_total", "_bucket")), expression
        bare = re.sub(r"(?:rate|increase)\([^)]*\)", "", expression)
        assert not re.search(r"flowserve_\w+_(total|bucket)\b", bare), expression


def test_panels_lie_beside_each_other():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(refs) == len(set(refs))
