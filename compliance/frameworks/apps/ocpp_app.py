"""OCPP 1.6: a central system for charge points, on a WebSocket route of FastAPI."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result
from ocpp.v16.enums import Action, RegistrationStatus

app = FastAPI()
points: dict[str, ChargePoint] = {}


class Connection:
    """What the ocpp package wants: recv() and send() of text."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket

    async def recv(self) -> str:
        return await self.websocket.receive_text()

    async def send(self, text: str) -> None:
        await self.websocket.send_text(text)


class Central(ChargePoint):
    @on(Action.boot_notification)
    async def boot(self, charge_point_vendor: str, charge_point_model: str, **_: Any) -> Any:
        now = datetime.now(timezone.utc).isoformat()
        return call_result.BootNotification(current_time=now, interval=10, status=RegistrationStatus.accepted)

    @on(Action.heartbeat)
    async def heartbeat(self) -> Any:
        return call_result.Heartbeat(current_time=datetime.now(timezone.utc).isoformat())

    @on(Action.data_transfer)
    async def transfer(self, vendor_id: str, **_: Any) -> Any:
        """Asks the charge point something before it answers."""
        task = asyncio.create_task(self.call(call.TriggerMessage(requested_message="Heartbeat")))
        task.add_done_callback(lambda done: points.update({f"{self.id} asked": done.result().status}))
        return call_result.DataTransfer(status="Accepted", data=vendor_id)


@app.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


@app.get("/points")
async def connected() -> dict[str, str]:
    return {name: str(point) if name.endswith("asked") else "connected" for name, point in points.items()}


@app.websocket("/{name}")
async def charge_point(websocket: WebSocket, name: str) -> None:
    if "ocpp1.6" not in websocket.scope["subprotocols"]:
        await websocket.close(1002, "no ocpp1.6")
        return
    await websocket.accept("ocpp1.6")
    points[name] = Central(name, Connection(websocket))
    try:
        await points[name].start()
    except WebSocketDisconnect:
        pass
    finally:
        del points[name]
