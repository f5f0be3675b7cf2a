"""How snapshots add up and are rendered."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.scraping import Figures

from flowserve import metrics
from flowserve.metrics import FAMILIES, SECONDS, SIZES, cells, close_label, merge, observe, render, without_gauges


def snapshot(count: int) -> metrics.Snapshot:
    sizes = cells(SIZES)
    for _ in range(count):
        observe(sizes, SIZES, 100)
    return {
        metrics.OPEN: {"http": count, "websocket": 2 * count},
        metrics.SENT: {"text": count, "binary": 0},
        metrics.REQUESTS: {"GET,200": count},
        metrics.CLOSES: {"1000": count} if count % 2 else {"1001": count},
        metrics.MESSAGE_SIZES: {"in,text": sizes},
        metrics.WORKER_MEMORY: {"": 1000 * count},
    }


def test_a_histogram_counts_up_to_and_with_each_bound():
    histogram = cells((1.0, 2.0))
    for value in (0, 1, 1.5, 2, 2.5, 100):
        observe(histogram, (1.0, 2.0), value)
    assert histogram == [2, 2, 2, 107]


def test_sums():
    total = merge([snapshot(1), snapshot(2), snapshot(3)])
    assert total[metrics.OPEN] == {"http": 6, "websocket": 12}
    assert total[metrics.REQUESTS] == {"GET,200": 6}
    assert total[metrics.CLOSES] == {"1000": 4, "1001": 2}
    assert total[metrics.MESSAGE_SIZES]["in,text"][-1] == 600
    assert metrics.WORKER_MEMORY not in total


def test_sums_leave_what_was_added_alone():
    first, second = snapshot(1), snapshot(2)
    merge([merge([first]), second])
    assert (first, second) == (snapshot(1), snapshot(2))


def test_what_stays_of_a_worker():
    left = without_gauges(snapshot(5))
    assert left[metrics.SENT] == {"text": 5, "binary": 0}
    assert left[metrics.MESSAGE_SIZES]["in,text"][-1] == 500
    assert metrics.OPEN not in left
    assert metrics.WORKER_MEMORY not in left
    assert without_gauges({}) == {}
    assert without_gauges(merge([left, left])) == merge([left, left])


def test_a_family_of_another_version_is_passed_over():
    assert merge([{"flowserve_of_tomorrow_total": {"": 1}}]) == {}


def test_snapshots_go_through_json():
    assert merge([json.loads(json.dumps(snapshot(3)))]) == merge([snapshot(3)])


def test_the_page_of_two_workers_and_one_that_is_gone():
    parts = [("1", snapshot(1)), ("2", snapshot(2)), ("", without_gauges(snapshot(4)))]
    page, media_type = render(parts)
    assert media_type.startswith("text/plain")
    figures = Figures(page.decode())
    assert figures.value("workers") == 2
    assert figures.value("open_connections", kind="websocket") == 6
    assert figures.value("worker_open_connections", worker="2", kind="websocket") == 4
    assert figures.value("http_requests_total", method="GET", status="200") == 7
    assert figures.labelled("worker_http_requests_total", "worker") == {"1": 1, "2": 2}
    assert figures.labelled("worker_resident_memory_bytes", "worker") == {"1": 1000, "2": 2000}
    labels = {"direction": "in", "type": "text"}
    assert figures.value("websocket_message_size_bytes_bucket", le="64.0", **labels) == 0
    assert figures.value("websocket_message_size_bytes_bucket", le="256.0", **labels) == 7
    assert figures.value("websocket_message_size_bytes_bucket", le="+Inf", **labels) == 7
    assert figures.value("websocket_message_size_bytes_sum", **labels) == 700


def test_names_follow_prometheus_conventions():
    for name, family in FAMILIES.items():
        assert name.endswith("_total") == (family.kind == "counter"), name
        assert (family.kind == "histogram") == bool(family.bounds), name
        assert not family.bounds or family.bounds == tuple(sorted(family.bounds))
        if family.bounds == SECONDS:
            assert name.endswith("_seconds")
        if family.bounds == SIZES:
            assert name.endswith("_bytes")


@pytest.mark.parametrize(
    ("code", "label"),
    [
        (1000, "1000"),
        (1006, "1006"),
        (1015, "1015"),
        (3000, "3000-3999"),
        (3999, "3000-3999"),
        (4000, "4000-4999"),
        (4999, "4000-4999"),
        (1004, "other"),
        (2999, "other"),
        (5000, "other"),
        (0, "other"),
    ],
)
def test_close_codes_have_few_labels(code, label):
    assert close_label(code) == label


def test_all_labels_are_few():
    loop = asyncio.new_event_loop()
    counted = metrics.Metrics(loop)
    for status in range(100, 600):
        for method in ("GET", "get", "X" * 50):
            counted.request(method, status, 0.1)
    for code in range(6000):
        counted.closed(code, 0)
    counted.close()
    loop.close()
    found = counted.snapshot()
    assert len(found[metrics.REQUESTS]) < 150
    assert len(found[metrics.DURATIONS]) == 5
    assert len(found[metrics.CLOSES]) < 20
