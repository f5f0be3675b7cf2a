"""Django's Channels: groups over Redis between two workers, consumers of each kind."""

from __future__ import annotations

import contextlib
import json

from websockets.sync.client import ClientConnection

from compliance.frameworks.checks.websocket import closed
from compliance.frameworks.site import PATIENCE, Site, expect

MEMBERS = 30


def channels_group(site: Site) -> None:
    """30 clients of two workers: what each of three says reaches all."""
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(site.websocket("/room")) for _ in range(MEMBERS)]
        for member in members:  # each is in the group when it has heard itself
            member.send(json.dumps({"word": "here"}))
        for member in members:
            until_word(member, "here")
        for speaker in (0, 1, MEMBERS - 1):
            members[speaker].send(json.dumps({"word": f"from {speaker}"}))
            for member in members:
                until_word(member, f"from {speaker}")


def until_word(member: ClientConnection, word: str) -> None:
    while json.loads(member.recv(PATIENCE))["word"] != word:
        pass


def channels_fragments(site: Site) -> None:
    """Django's SafeString, as message and as close reason."""
    with site.websocket("/fragments") as websocket:
        websocket.send("hello")
        expect([websocket.recv(PATIENCE) for _ in range(2)], ["<p>hello</p>", "<b>hello</b>"])
        expect(closed(lambda: websocket.recv(PATIENCE)), (4000, "done"))


def channels_synchronous_consumer(site: Site) -> None:
    with site.websocket("/synchronous") as websocket:
        for word in ("hello", "world"):
            websocket.send(word)
            expect(websocket.recv(PATIENCE), word.upper())


def channels_close(site: Site) -> None:
    with site.websocket("/ws") as websocket:
        websocket.send("close")
        expect(closed(lambda: websocket.recv(PATIENCE)), (4001, "bye"))


def channels_http_consumer(site: Site) -> None:
    expect(site.request("POST", "/consumer", b"x" * 1000).json, {"bytes": 1000})


def channels_clients_that_vanish(site: Site) -> None:
    """TCP ends while the group still sends to them."""
    with site.websocket("/room") as stays:
        for _ in range(10):
            gone = site.websocket("/room")
            gone.send(json.dumps({"word": "soon gone"}))
            gone.socket.shutdown(2)
            gone.close_socket()
        stays.send(json.dumps({"word": "still here"}))
        until_word(stays, "still here")


CHANNELS = (
    channels_group,
    channels_fragments,
    channels_synchronous_consumer,
    channels_close,
    channels_http_consumer,
    channels_clients_that_vanish,
)
