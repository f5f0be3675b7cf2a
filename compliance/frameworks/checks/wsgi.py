"""What WSGI applications depend on, beside the checks of http.py."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from compliance.frameworks.checks import http
from compliance.frameworks.site import Failed, Raw, Site, expect, until


def requests_side_by_side(site: Site) -> None:
    """Eight requests of half a second each, over eight connections."""
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        statuses = [answer.status for answer in pool.map(site.get, ["/slow"] * 8)]
    expect(statuses, [200] * 8)
    if (took := time.monotonic() - began) > 2:
        raise Failed(f"8 requests of 0.5 s took {took:.1f} s")


def environ(site: Site) -> None:
    found = site.get("/environ?a=b%20c", X_Token="abc").json
    expect([found[name] for name in ("QUERY_STRING", "HTTP_X_TOKEN", "REQUEST_METHOD")], ["a=b%20c", "abc", "GET"])
    expect((found["SERVER_PORT"], found["REMOTE_ADDR"]), (str(site.port), "127.0.0.1"))


def start_response_with_exc_info(site: Site) -> None:
    answer = site.get("/raw")
    expect((answer.status, answer.text), (418, "short and stout"))


def closes_iterables(site: Site) -> None:
    """close() is called on what streams to clients that leave."""
    clients = [Raw(site.port) for _ in range(5)]
    for client in clients:
        client.send("GET /events HTTP/1.1")
        client.wait_for(b"data: hello")
        client.close()
    until(lambda: bool(site.get("/counts").json["open"] == 0), "close() of all iterables")


STREAMS = (http.streamed_response, http.piece_before_blocking_code)
"""PEP 3333 has the head wait for the first piece."""
WSGI = (requests_side_by_side, environ, start_response_with_exc_info, closes_iterables)
