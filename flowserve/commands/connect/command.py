"""The command `flowserve connect URL`."""

from __future__ import annotations

import os
from typing import Any

import click

from flowserve.commands.connect.conversation import Frontend, run_frontend
from flowserve.commands.connect.lines import LineFrontend
from flowserve.commands.endpoint import Endpoint, EndpointCommand, endpoint_options, make_endpoint, option, url_argument
from flowserve.config.config import OPTIONS
from flowserve.config.kinds import duration, optional
from flowserve.errors import FlowserveError, install_hint
from flowserve.runtime.event_loop import run_in_loop

_HELP = """Talk to the WebSocket server at URL.

In a terminal, what is typed is sent line by line, and what comes is shown above the prompt: < before text, <* before
binary messages. Ctrl-D or /close ends it; /help names the other commands, Tab completes them. A second slash sends a
line that begins with one: //help. What was typed is kept for the next time, in ~/.local/state/flowserve.

With piped input or output each line is a message, without any commands, and each message received is a line of the
output. After the end of the input it waits for answers until none has come for --wait, and closes.

\b
echo hello | flowserve connect ws://127.0.0.1:8000/
flowserve connect wss://example.com/feed --wait forever < subscribe.json | jq .price

Exit status: 0 if the WebSocket was closed in order (1000, 1001, no code, or at your wish), 1 if it was not or did not
come about, 2 for wrong usage, 130 after Ctrl-C.
"""


def _talk(url: str, binary: bool, base64: bool, wait: float | None, **endpoint_values: Any) -> int:
    endpoint = make_endpoint(url, endpoint_values)
    if _interactive():
        if binary:
            raise click.UsageError("--binary is for piped input; in a terminal there is the command /binary")
        frontend = _make_prompt(endpoint)
    else:
        frontend = LineFrontend(binary=binary, base64=base64, wait=wait)
    return run_in_loop("auto", lambda: run_frontend(endpoint, frontend))


def _interactive() -> bool:
    try:
        return os.isatty(0) and os.isatty(1)
    except OSError:  # closed
        return False


def _make_prompt(endpoint: Endpoint) -> Frontend:
    try:
        from flowserve.commands.connect.prompt import PromptFrontend
    except ImportError:
        raise FlowserveError(f"{install_hint('prompt-toolkit')}, or pipe the input") from None
    return PromptFrontend(str(endpoint.uri))


talk = EndpointCommand(
    "connect",
    callback=_talk,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[
        url_argument(),
        *endpoint_options(
            compression=True,
            ping_interval=OPTIONS["ws_ping_interval"].default,
            timeout_help="Longest wait for the server when connecting.",
        ),
        click.Option(["--binary"], is_flag=True, help="Send the lines of the input as binary messages."),
        click.Option(
            ["--base64"],
            is_flag=True,
            help="Binary messages stand in base64 in the output, and with --binary in the input; else as they are.",
        ),
        option(
            ["--wait"],
            optional(duration(zero=True), "forever"),
            1.0,
            "After the end of the input: close when nothing has come for so long.",
        ),
    ],
)
