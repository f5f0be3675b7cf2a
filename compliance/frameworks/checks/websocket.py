"""WebSockets; the routes are those of apps/starlette_app.py."""

from __future__ import annotations

from collections.abc import Callable

from websockets.exceptions import ConnectionClosed, InvalidStatus

from compliance.frameworks.site import PATIENCE, Failed, Site, expect, until


def websocket_text(site: Site) -> None:
    with site.websocket("/ws") as websocket:
        for text in ("hello", "\N{SNOWMAN}\N{PILE OF POO}", "x" * 200_000):
            websocket.send(text)
            expect(websocket.recv(PATIENCE), text)


def websocket_binary(site: Site) -> None:
    with site.websocket("/ws") as websocket:
        for data in (b"\0\xff", bytes(range(256)) * 4096):
            websocket.send(data)
            expect(websocket.recv(PATIENCE), data)


def websocket_empty_messages(site: Site) -> None:
    with site.websocket("/ws") as websocket:
        for nothing in ("", b""):
            websocket.send(nothing)
            expect(websocket.recv(PATIENCE), nothing)


def websocket_subprotocol(site: Site) -> None:
    with site.websocket("/ws", subprotocols=["superchat", "chat"]) as websocket:
        expect(websocket.subprotocol, "chat")


def websocket_many_messages(site: Site) -> None:
    """More in flight than any queue holds."""
    with site.websocket("/ws") as websocket:
        for number in range(500):
            websocket.send(str(number))
        expect([websocket.recv(PATIENCE) for _ in range(500)], [str(number) for number in range(500)])


def websocket_closed_by_application(site: Site) -> None:
    with site.websocket("/ws") as websocket:
        websocket.send("close 4001 bye")
        expect(closed(lambda: websocket.recv(PATIENCE)), (4001, "bye"))


def websocket_closed_by_client(site: Site) -> None:
    with site.websocket("/ws") as websocket:
        websocket.close(4002, "done")
    until(lambda: bool(site.get("/counts").json["close"] == 4002), "close code 4002 in the application", 3)


def websocket_lost_by_client(site: Site) -> None:
    """TCP ends without a close frame: 1006, as RFC 6455 has it."""
    websocket = site.websocket("/ws")
    websocket.socket.shutdown(2)
    until(lambda: bool(site.get("/counts").json["close"] in (1005, 1006)), "close code 1006 in the application", 3)
    websocket.close_socket()


def websocket_message_before_blocking_code(site: Site) -> None:
    """What was awaited is with the client before the code that blocks ends (0.6 s)."""
    with site.websocket("/ws") as websocket:
        websocket.send("block")
        try:
            expect(websocket.recv(0.4), "before")
        except TimeoutError:
            raise Failed("the message waited for code that ran after its send") from None
        expect(websocket.recv(PATIENCE), "after")


def websocket_refused(site: Site) -> None:
    expect(refused(site, "/refuse"), 403)


def websocket_denied(site: Site) -> None:
    """The denial response extension."""
    expect(refused(site, "/deny"), 401)


def websocket_with_wrong_parameter(site: Site) -> None:
    """FastAPI's own handler refuses it, with a list as the close reason."""
    expect(refused(site, "/items/seven"), 403)
    with site.websocket("/items/7") as websocket:
        expect(websocket.recv(PATIENCE), "7")


def websocket_error_closes(site: Site) -> None:
    """A handler that raises ends its WebSocket, with a code that its framework may choose."""
    with site.websocket("/ws") as websocket:
        websocket.send("raise")
        closed(lambda: websocket.recv(PATIENCE))


def refused(site: Site, path: str) -> int:
    """The status of a handshake that fails."""
    try:
        with site.websocket(path):
            raise Failed("the handshake succeeded")
    except InvalidStatus as refusal:
        return int(refusal.response.status_code)


def closed(receive: Callable[[], object]) -> tuple[int, str]:
    try:
        raise Failed(f"still open; received {receive()!r}")
    except ConnectionClosed as end:
        return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


WEBSOCKET = (
    websocket_text,
    websocket_binary,
    websocket_empty_messages,
    websocket_many_messages,
    websocket_closed_by_application,
    websocket_message_before_blocking_code,
    websocket_refused,
)
CLOSE_CODES = (websocket_closed_by_client, websocket_lost_by_client)
SUBPROTOCOL = (websocket_subprotocol,)
DENIAL = (websocket_denied,)
PARAMETER = (websocket_with_wrong_parameter,)
ERROR = (websocket_error_closes,)
