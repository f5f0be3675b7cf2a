"""Context variables that one request sets are not seen by the next one, whatever connection it comes on."""

from __future__ import annotations

import re
from collections import Counter

from compliance.frameworks.checks.http import MEGABYTE
from compliance.frameworks.site import Site, expect

BODIES = re.compile(rb"(nobody|alice)")


def context_of_kept_alive_requests(site: Site) -> None:
    with site.kept_alive() as request:
        expect({request("GET", "/context").text for _ in range(20)}, {"nobody"})


def context_of_pipelined_requests(site: Site) -> None:
    for _ in range(5):
        with site.raw() as client:
            client.send(*["GET /context HTTP/1.1"] * 5, "GET /context HTTP/1.1\r\nConnection: close")
            expect(Counter(BODIES.findall(client.read_all())), {b"nobody": 6})


def context_after_upload(site: Site) -> None:
    with site.kept_alive() as request:
        for _ in range(3):
            request("POST", "/upload", MEGABYTE)
            expect([request("GET", "/context").text for _ in range(3)], ["nobody"] * 3)


def context_after_file(site: Site) -> None:
    with site.kept_alive() as request:
        for _ in range(20):
            request("GET", "/file")
            expect(request("GET", "/context").text, "nobody")


def context_of_websocket_behind_request(site: Site) -> None:
    for _ in range(5):
        with site.websocket("/ws-context") as websocket:
            expect(websocket.recv(5), "nobody")


CONTEXTS = (context_of_kept_alive_requests, context_of_pipelined_requests, context_after_upload)
CONTEXT_FILES = (context_after_file,)
CONTEXT_WEBSOCKET = (context_of_websocket_behind_request,)
