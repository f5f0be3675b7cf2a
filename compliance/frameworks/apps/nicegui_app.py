"""NiceGUI: a page that lives on its WebSocket."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from nicegui import app as nicegui
from nicegui import events, ui

app = FastAPI()
left: list[str] = []
nicegui.on_disconnect(lambda: left.append("left"))


@app.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


@app.get("/left")
async def gone() -> int:
    return len(left)


async def uploaded(event: events.UploadEventArguments) -> None:
    content = await event.file.read()
    ui.label(f"uploaded {len(content)}")


@ui.page("/page")
def page() -> None:
    clicks = ui.label("0 clicks")
    ui.button("Click", on_click=lambda: clicks.set_text(f"{int(clicks.text.split()[0]) + 1} clicks"))
    typed = ui.label("typed:")
    ui.input("Name", on_change=lambda change: typed.set_text(f"typed:{change.value}"))
    ticks = ui.label("ticks 0")
    ui.timer(0.1, lambda: ticks.set_text(f"ticks {int(ticks.text.split()[1]) + 1}"))
    ui.upload(on_upload=uploaded, auto_upload=True)


ui.run_with(app, storage_secret="not a secret")
