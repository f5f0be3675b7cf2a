"""The frontend for a terminal: a prompt. Needs prompt_toolkit, which the extra flowserve[connect] installs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from flowserve.commands.connect.conversation import CloseRequest
from flowserve.commands.endpoint import escape_for_terminal, one_line
from flowserve.errors import ConnectionClosed
from flowserve.library.properties import session_of
from flowserve.library.websocket import WebSocket
from flowserve.websocket.constants import is_sendable

_STYLE = Style.from_dict({"mark": "bold", "in": "ansigreen", "note": "ansibrightblack", "error": "ansired"})
_MAX_SHOWN_CHARACTERS = 65536
"""Characters of a text message to show."""
_MAX_SHOWN_BYTES = 48
"""Bytes of a binary message to show."""
_BATCH = 65536
"""Characters to show at a time, before the prompt is drawn again."""

_COMMANDS = (
    ("/ping", "", "ping the server, and show how long the pong takes"),
    ("/binary", "00ff 2a", "send a binary message, written in hexadecimal"),
    ("/binary", "@FILE", "send what is in a file as a binary message"),
    ("/close", "[CODE] [..]", "close with a code (1000) and a reason"),
    ("/help", "", "show this"),
)
"""Name, arguments and explanation of each."""
_NOTES = """//...               send a line that begins with one slash
Tab completes commands and files. Ctrl-D closes with 1000, Ctrl-C likewise."""
_FILE_OF_BINARY = "/binary @"

Piece = tuple[str, str]
"""A style and a text, as prompt_toolkit takes them."""


class CommandCompleter(Completer):
    """Completes commands, and the names of files behind `/binary @`."""

    def __init__(self) -> None:
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        typed = document.text_before_cursor
        if typed.startswith(_FILE_OF_BINARY):
            path = Document(typed.removeprefix(_FILE_OF_BINARY))
            yield from self._files.get_completions(path, complete_event)
        elif typed.startswith("/"):
            names = {name: name + " " * bool(arguments) for name, arguments, _ in _COMMANDS}
            yield from (Completion(text, -len(typed)) for name, text in names.items() if name.startswith(typed))


class PromptFrontend:
    """Sends typed lines, and shows received messages above the prompt."""

    def __init__(self, name: str) -> None:
        """`name` is the server's URI, for the greeting."""
        self._name = name
        self._session: PromptSession[str] = PromptSession(
            history=_history(),
            style=_STYLE,
            color_depth=_color_depth(),
            completer=CommandCompleter(),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,  # a menu would take lines below the prompt
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def talk(self, ws: WebSocket) -> CloseRequest | ConnectionClosed:
        await self._show(
            [("class:note", f"connected to {self._name}{_subprotocol_note(ws)}; /help names the commands")]
        )
        typing = asyncio.ensure_future(self._read_input(ws))
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

    # Input

    async def _read_input(self, ws: WebSocket) -> CloseRequest | ConnectionClosed:
        try:
            while True:
                line = await self._session.prompt_async([("class:mark", "> ")], handle_sigint=False)
                close_request = await self._execute(ws, line)
                if close_request is not None:
                    return close_request
        except ConnectionClosed as error:
            return error
        except EOFError:
            return CloseRequest()
        except KeyboardInterrupt:
            return CloseRequest(interrupted=True)

    async def _execute(self, ws: WebSocket, line: str) -> CloseRequest | None:
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
                await self._show([("class:note", _command_help())])
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

    # Output

    async def _receive(self, ws: WebSocket) -> ConnectionClosed:
        try:
            while True:
                lines = [_format_message(await ws.receive())]
                size = len(lines[0][1][1])
                while session_of(ws).waiting and size < _BATCH:
                    lines.append(_format_message(await ws.receive()))
                    size += len(lines[-1][1][1])
                await self._show(*lines)
        except ConnectionClosed as error:
            return error

    async def _show(self, *lines: list[Piece]) -> None:
        """Print lines above the prompt."""
        await run_in_terminal(lambda: self._print(list(lines)))

    def _print(self, lines: list[list[Piece]]) -> None:
        pieces = [piece for line in lines for piece in (*line, ("", "\n"))]
        print_formatted_text(self._session.output, FormattedText(pieces), _STYLE, color_depth=_color_depth())


def _format_message(message: str | bytes) -> list[Piece]:
    if isinstance(message, str):
        more = f"... ({len(message):,} characters)" if len(message) > _MAX_SHOWN_CHARACTERS else ""
        text = escape_for_terminal(message[:_MAX_SHOWN_CHARACTERS]).replace("\n", "\n  ")
        return [("class:mark", "< "), ("class:in", text), ("class:note", more)]
    more = " ..." if len(message) > _MAX_SHOWN_BYTES else ""
    text = message[:_MAX_SHOWN_BYTES].hex(" ") + more
    return [("class:mark", "<* "), ("class:in", text), ("class:note", f" ({len(message):,} bytes)")]


def _command_help() -> str:
    lines = [f"{f'{name} {arguments}':<19} {text}" for name, arguments, text in _COMMANDS]
    return "\n".join([*lines, _NOTES])


def _subprotocol_note(ws: WebSocket) -> str:
    return f" ({one_line(ws.subprotocol)})" if ws.subprotocol else ""


def _read_binary(text: str) -> bytes:
    """Return the bytes of hexadecimal digits, or of a file named after @. Raises ValueError and OSError."""
    if text.startswith("@"):
        return Path(text[1:]).expanduser().read_bytes()
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{text!r} is not hexadecimal; write e.g. /binary 00ff 2a, or /binary @FILE") from None


def _read_close(text: str) -> CloseRequest:
    """Parse the arguments of /close: a code and a reason, both optional. Raises ValueError."""
    code, _, reason = text.strip().partition(" ")
    if not code:
        return CloseRequest()
    if not code.isdecimal() or not is_sendable(int(code)):
        raise ValueError(f"{code!r} is not a code to close with; write /close 1000 bye, or a code from 3000 to 4999")
    return CloseRequest(int(code), reason.strip())


def _color_depth() -> ColorDepth | None:
    """Return the colour depth to use: none with NO_COLOR (https://no-color.org), otherwise the terminal's."""
    return ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else None


def _history() -> History:
    """Return the history of typed lines, in a file that only the user may read; in memory if there can be no file."""
    try:
        folder = _state_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "connect_history"
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600))
        path.chmod(0o600)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return InMemoryHistory()
    return FileHistory(str(path))


def _state_folder() -> Path:
    """Return the user's folder for state files (XDG Base Directory Specification)."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "flowserve"
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "flowserve"
