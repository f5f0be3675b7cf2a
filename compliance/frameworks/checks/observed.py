"""What tells requests apart: correlation identifiers, bound log context, metrics."""

from __future__ import annotations

import re
import uuid

from compliance.frameworks.site import PATIENCE, Failed, Site, expect, until

ID = re.compile(rb"id=([^;]*);")


def identifiers_of_kept_alive_requests(site: Site) -> None:
    with site.kept_alive() as request:
        seen = []
        for _ in range(10):
            request("GET", "/other")
            seen.append(request("GET", "/id").text)
    all_own(seen)


def identifiers_of_pipelined_requests(site: Site) -> None:
    with site.raw() as client:
        client.send(*["GET /id HTTP/1.1"] * 5, "GET /id HTTP/1.1\r\nConnection: close")
        all_own([found.decode() for found in ID.findall(client.read_all())])


def all_own(seen: list[str]) -> None:
    strange = [found for found in seen if "None" in found or "others" in found]
    if strange:
        raise Failed(f"context of another request: {strange[0]}")
    expect(len(set(seen)), len(seen), "different identifiers")


def given_identifier(site: Site) -> None:
    expect(site.get("/id", X_Request_ID="abc").text, "id=abc;")


def error_is_logged_with_identifier(site: Site) -> None:
    """What the server logs of a request's exception, it logs within that request's context."""
    name = uuid.uuid4().hex
    expect(site.get("/error", X_Request_ID=name).status, 500)
    logged_once(site, name)


def websocket_error_is_logged_with_identifier(site: Site) -> None:
    name = uuid.uuid4().hex
    with site.websocket("/ws-error", additional_headers={"X-Request-ID": name}) as websocket:
        expect(websocket.recv(PATIENCE), name)
    logged_once(site, name)


def logged_once(site: Site, name: str) -> None:
    seen: list[tuple[str, str]] = []

    def logged() -> bool:
        seen[:] = site.get("/records").json
        return bool(seen)

    until(logged, "an error in the server's log", 2)
    expect(seen[-1][1], name, "the context of the error")


def metrics(site: Site) -> None:
    for _ in range(3):
        site.get("/")
    with site.websocket("/ws") as websocket:
        websocket.send("hello")
        websocket.recv(PATIENCE)
        sample(site, 'app_busy{type="websocket"} 1.0')
    sample(site, 'app_requests_total{path="/",status="200"} 3.0')
    until(lambda: 'app_busy{type="websocket"} 0.0' in site.get("/metrics/").text, "the end of the WebSocket")
    expect(site.get("/metrics/", Accept_Encoding="gzip").headers.get("content-encoding"), "gzip")


def sample(site: Site, line: str) -> None:
    text = site.get("/metrics/").text
    if line not in text.splitlines():
        name = line.partition("{")[0]
        raise Failed(f"{line} is not among {[found for found in text.splitlines() if found.startswith(name)]}")


IDENTIFIERS = (identifiers_of_kept_alive_requests, identifiers_of_pipelined_requests, given_identifier)
LOGGED = (error_is_logged_with_identifier, websocket_error_is_logged_with_identifier)
METRICS = (metrics,)
