"""A person at a prompt. Needs the library prompt_toolkit, an extra."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style

from flowserve.commands.connect.conversation import Leave
from flowserve.commands.endpoint import escape_for_terminal, one_line
from flowserve.errors import ConnectionClosed
from flowserve.library.websocket import WebSocket
from flowserve.websocket.constants import is_sendable

_STYLE = Style.from_dict({"mark": "bold", "in": "ansigreen", "note": "ansibrightblack", "error": "ansired"})
_LONGEST = 65536
"""Characters of a message that are shown."""
_BYTES = 48
"""Bytes of a binary message that are shown."""
_BATCH = 65536
"""Characters that are shown at a time, before the prompt is drawn anew."""

_COMMANDS = """/ping               ping the server, and show how long the pong takes
/binary 00ff 2a     send a binary message, written in hexadecimal
/binary @FILE       send what is in a file as a binary message
/close [CODE] [..]  close with a code (1000) and a reason
/help               show this
//...               send a line that begins with one slash
Ctrl-D closes with 1000, Ctrl-C likewise."""

Piece = tuple[str, str]
"""A style and a text."""


class Prompt:
    """Sends what is typed, and shows what comes above the prompt."""

    def __init__(self, name: str) -> None:
        """`name` is the server's."""
        self._name = name
        self._session: PromptSession[str] = PromptSession(history=_history(), style=_STYLE, color_depth=_depth())
        self._tasks: set[asyncio.Task[None]] = set()

    async def talk(self, ws: WebSocket) -> Leave | ConnectionClosed:
        await self._show([("class:note", f"connected to {self._name}{_agreed(ws)}; /help names the commands")])
        typing = asyncio.ensure_future(self._type(ws))
        receiving = asyncio.ensure_future(self._receive(ws))
        try:
            await asyncio.wait({typing, receiving}, return_when=asyncio.FIRST_COMPLETED)
            return receiving.result() if receiving.done() else typing.result()
        finally:
            tasks = {typing, receiving, *self._tasks}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def closed(self, text: str) -> None:
        self._print([[("class:note", text)]])

    # What is typed

    async def _type(self, ws: WebSocket) -> Leave | ConnectionClosed:
        try:
            while True:
                line = await self._session.prompt_async([("class:mark", "> ")], handle_sigint=False)
                leave = await self._obey(ws, line)
                if leave is not None:
                    return leave
        except ConnectionClosed as error:
            return error
        except EOFError:
            return Leave()
        except KeyboardInterrupt:
            return Leave(interrupted=True)

    async def _obey(self, ws: WebSocket, line: str) -> Leave | None:
        command, _, rest = line.partition(" ")
        try:
            if line.startswith("//"):
                await ws.send(line[1:])
            elif not line.startswith("/"):
                await ws.send(line)
            elif command == "/ping":
                self._start_ping(ws)
            elif command == "/binary":
                await ws.send(await asyncio.to_thread(_read_binary, rest.strip()))
            elif command == "/close":
                return _read_close(rest)
            elif command == "/help":
                await self._show([("class:note", _COMMANDS)])
            else:
                raise ValueError(f"there is no {command}; /help names the commands, // sends a slash")
        except (ValueError, OSError) as error:
            await self._show([("class:error", str(error))])
        return None

    def _start_ping(self, ws: WebSocket) -> None:
        task = asyncio.ensure_future(self._ping(ws))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ping(self, ws: WebSocket) -> None:
        try:
            seconds = await ws.ping()
        except ConnectionClosed:
            return
        await self._show([("class:note", f"pong after {seconds * 1000:.1f} ms")])

    # What comes

    async def _receive(self, ws: WebSocket) -> ConnectionClosed:
        try:
            while True:
                shown = [_message(await ws.receive())]
                size = len(shown[0][1][1])
                while ws.session.waiting and size < _BATCH:
                    shown.append(_message(await ws.receive()))
                    size += len(shown[-1][1][1])
                await self._show(*shown)
        except ConnectionClosed as error:
            return error

    async def _show(self, *lines: list[Piece]) -> None:
        """Show lines above the prompt, if there is one."""
        await run_in_terminal(lambda: self._print(list(lines)))

    def _print(self, lines: list[list[Piece]]) -> None:
        pieces = [piece for line in lines for piece in (*line, ("", "\n"))]
        print_formatted_text(self._session.output, FormattedText(pieces), _STYLE, color_depth=_depth())


def _message(message: str | bytes) -> list[Piece]:
    if isinstance(message, str):
        more = f"... ({len(message):,} characters)" if len(message) > _LONGEST else ""
        text = escape_for_terminal(message[:_LONGEST]).replace("\n", "\n  ")
        return [("class:mark", "< "), ("class:in", text), ("class:note", more)]
    more = " ..." if len(message) > _BYTES else ""
    text = message[:_BYTES].hex(" ") + more
    return [("class:mark", "<* "), ("class:in", text), ("class:note", f" ({len(message):,} bytes)")]


def _agreed(ws: WebSocket) -> str:
    return f" ({one_line(ws.subprotocol)})" if ws.subprotocol else ""


def _read_binary(text: str) -> bytes:
    """Read hexadecimal, or @ and a file's name. Raises ValueError and OSError."""
    if text.startswith("@"):
        return Path(text[1:]).expanduser().read_bytes()
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{text!r} is not hexadecimal; write e.g. /binary 00ff 2a, or /binary @FILE") from None


def _read_close(text: str) -> Leave:
    """Read a code and a reason, both of which may be left out. Raises ValueError."""
    code, _, reason = text.strip().partition(" ")
    if not code:
        return Leave()
    if not code.isdecimal() or not is_sendable(int(code)):
        raise ValueError(f"{code!r} is not a code to close with; write /close 1000 bye, or a code from 3000 to 4999")
    return Leave(int(code), reason.strip())


def _depth() -> ColorDepth | None:
    """No colours where nobody wants them (https://no-color.org); else as many as the terminal has."""
    return ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else None


def _history() -> History:
    """What was typed before, in a file that nobody else may read; forgotten at the end where there can be none."""
    try:
        folder = _state()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "connect_history"
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600))
        path.chmod(0o600)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return InMemoryHistory()
    return FileHistory(str(path))


def _state() -> Path:
    """The user's folder for such things (XDG Base Directory Specification)."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "flowserve"
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "flowserve"
