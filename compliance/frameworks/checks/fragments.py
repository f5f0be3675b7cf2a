"""What is sent as a subclass of str: FastHTML's fragments and Django's SafeString."""

from __future__ import annotations

import json

from compliance.frameworks.site import PATIENCE, Site, expect


def fasthtml_page(site: Site) -> None:
    answer = site.get("/page")
    expect((answer.status, "<p>Hello</p>" in answer.text), (200, True))


def fasthtml_websocket(site: Site) -> None:
    with site.websocket("/ws") as websocket:
        for word in ("hello", "world"):
            websocket.send(json.dumps({"msg": word, "HEADERS": {"HX-Request": "true"}}))
            expect("Got it" in str(websocket.recv(PATIENCE)), True, "the first fragment")
            expect(word.upper() in str(websocket.recv(PATIENCE)), True, "the second fragment")


FASTHTML = (fasthtml_page, fasthtml_websocket)
