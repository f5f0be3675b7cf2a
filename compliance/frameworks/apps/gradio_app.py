"""Gradio, mounted on FastAPI: a function, a stream, an upload."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

api = FastAPI()


@api.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


def greet(name: str) -> str:
    return f"Hello {name}!"


def count() -> Iterator[str]:
    for number in range(10):
        yield f"counted {number}"
        time.sleep(0.15)


def size(path: str) -> str:
    return f"{os.path.getsize(path)} bytes"


with gr.Blocks() as demo:
    name, greeting = gr.Textbox(label="Name"), gr.Textbox(label="Greeting")
    gr.Button("Greet").click(greet, name, greeting, api_name="greet")
    counted = gr.Textbox(label="Counted")
    gr.Button("Count").click(count, None, counted)
    file, bytes_ = gr.File(label="File"), gr.Textbox(label="Size")
    file.upload(size, file, bytes_)

app = gr.mount_gradio_app(api, demo, path="/page")
