"""What monitoring sees: OpenTelemetry's spans and Sentry's events, each of its own request."""

from __future__ import annotations

import time
from typing import Any

from compliance.frameworks.checks.websocket import closed
from compliance.frameworks.site import PATIENCE, Failed, Site, expect, until


def spans_of_kept_alive_requests(site: Site) -> None:
    site.get("/spans")
    with site.kept_alive() as request:
        for _ in range(5):
            request("GET", "/other")
            request("GET", "/pieces")
    all_roots(site, 10)


def spans_of_pipelined_requests(site: Site) -> None:
    site.get("/spans")
    with site.raw() as client:
        client.send(*["GET /other HTTP/1.1"] * 5, "GET /other HTTP/1.1\r\nConnection: close")
        client.read_all()
    all_roots(site, 6)


def span_of_websocket(site: Site) -> None:
    site.get("/spans")
    with site.websocket("/ws") as websocket:
        websocket.send("hello")
        websocket.recv(PATIENCE)
    all_roots(site, 1)


def all_roots(site: Site, number: int) -> None:
    spans: list[dict[str, Any]] = []

    def ended() -> bool:
        spans.extend(span for span in site.get("/spans").json if span["name"] != "GET /spans")
        return len(spans) >= number

    until(ended, f"{number} spans", 2)
    if children := [span["name"] for span in spans if not span["root"]]:
        raise Failed(f"{len(children)} of {len(spans)} spans are children of another request's: {children[0]}")
    expect([span for span in spans if span["status"] == "ERROR"], [], "spans with an error")


def sentry_reports_error_once(site: Site) -> None:
    site.get("/reported")
    site.get("/error/first")
    reported_once(site, "first", "/error/first")


def sentry_reports_websocket_error_once(site: Site) -> None:
    site.get("/reported")
    with site.websocket("/ws-error/socket") as websocket:
        closed(lambda: websocket.recv(PATIENCE))
    reported_once(site, "socket", "/ws-error/socket")


def reported_once(site: Site, name: str, path: str) -> None:
    time.sleep(0.3)  # a second report may follow
    events = site.get("/reported").json
    expect([event["value"] for event in events], [name], "events")
    expect((events[0]["tag"], path in str(events[0]["url"])), (name, True), "tag, and whether the URL is told")


def sentry_keeps_tags_apart(site: Site) -> None:
    site.get("/reported")
    with site.kept_alive() as request:
        request("GET", "/tagged/own")
        request("GET", "/tags/none")
    with site.raw() as client:
        client.send("GET /tagged/own HTTP/1.1", "GET /tags/none HTTP/1.1\r\nConnection: close")
        client.read_all()
    events = site.get("/reported").json
    expect([event["tag"] for event in events if event["value"] == "none"], [None, None], "tags of another request")


def sentry_is_not_told_of_broken_off_downloads(site: Site) -> None:
    site.get("/reported")
    for path in ("/download", "/events") * 3:
        with site.raw() as client:
            client.send(f"GET {path} HTTP/1.1")
            client.wait_for(b"\r\n\r\n")
    nothing_reported(site)


def sentry_is_not_told_of_websockets_that_leave(site: Site) -> None:
    site.get("/reported")
    for _ in range(3):
        websocket = site.websocket("/ws")
        websocket.recv(PATIENCE)
        websocket.socket.shutdown(2)
        websocket.close_socket()
    nothing_reported(site)


def nothing_reported(site: Site) -> None:
    time.sleep(0.5)
    expect([event["value"] for event in site.get("/reported").json], [], "events")


SPANS = (spans_of_kept_alive_requests, spans_of_pipelined_requests, span_of_websocket)
SENTRY = (sentry_is_not_told_of_broken_off_downloads, sentry_is_not_told_of_websockets_that_leave)
SENTRY_ERRORS = (sentry_reports_error_once, sentry_reports_websocket_error_once, sentry_keeps_tags_apart)
