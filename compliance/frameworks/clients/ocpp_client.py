"""Charge points: the ocpp package over the client of websockets."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from typing import Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result
from ocpp.v16.enums import Action
from report import check
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

PORT = sys.argv[1]


class Point(ChargePoint):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.triggered = asyncio.Event()

    @on(Action.trigger_message)
    async def trigger(self, requested_message: str, **_: Any) -> Any:
        self.triggered.set()
        return call_result.TriggerMessage(status="Accepted")


def dial(name: str) -> Any:
    return connect(f"ws://127.0.0.1:{PORT}/{name}", subprotocols=[Subprotocol("ocpp1.6")], proxy=None)


async def boot(name: str, heartbeats: int) -> None:
    async with dial(name) as websocket:
        assert websocket.subprotocol == "ocpp1.6", websocket.subprotocol
        point = Point(name, websocket)
        running = asyncio.create_task(point.start())
        answer = await point.call(call.BootNotification(charge_point_model="m", charge_point_vendor="v"))
        assert answer.status == "Accepted", answer
        for _ in range(heartbeats):
            await point.call(call.Heartbeat())
        running.cancel()


async def refused(name: str) -> int:
    try:
        async with connect(f"ws://127.0.0.1:{PORT}/{name}", proxy=None):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


def points() -> dict[str, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/points") as response:
        found: dict[str, str] = json.load(response)
        return found


async def main() -> None:
    async with check("ocpp: boot and heartbeats"):
        await boot("first", 20)
    async with check("ocpp: 30 charge points"):
        await asyncio.gather(*(boot(f"point{number}", 5) for number in range(30)))
    async with check("ocpp: the central system calls"), dial("called") as websocket:
        point = Point("called", websocket)
        running = asyncio.create_task(point.start())
        await point.call(call.DataTransfer(vendor_id="v"))
        await point.triggered.wait()
        running.cancel()
    async with check("ocpp: charge points that left are forgotten"):
        while any(status == "connected" for status in points().values()):  # noqa: ASYNC110 (of another process)
            await asyncio.sleep(0.05)
    async with check("ocpp: refused without the subprotocol"):
        status = await refused("none")
        assert status == 403, status


asyncio.run(main())
