"""A client that sends what it is given, line by line, and prints what comes: `echo hello | python client.py URI`."""

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator

from flowserve import ConnectionClosed, FlowserveError, Reader, Writer, connect

WAIT = 1.0
"""Seconds in which answers may still come when the input has ended."""


async def input_lines() -> AsyncIterator[str]:
    """What is typed, or piped in, line by line.

    Read in a thread of its own: an event loop can't wait for files, and the program would wait for its executor's.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue(100)

    def put(line: str | None) -> None:
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    def read() -> None:
        try:
            with open(0, encoding="utf-8", errors="replace", closefd=False) as stdin:
                for line in stdin:
                    put(line.rstrip("\n"))
        except OSError:
            pass  # there is no input
        put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line


async def send_lines(writer: Writer) -> None:
    try:
        async for line in input_lines():
            await writer.send(line)
        await asyncio.sleep(WAIT)
        await writer.close()
    except ConnectionClosed:
        pass  # the reader knows it too


async def print_messages(reader: Reader) -> None:
    async for message in reader:
        print(message, flush=True)


async def main(uri: str) -> None:
    async with connect(uri) as ws:
        reader, writer = ws.split()
        sending = asyncio.create_task(send_lines(writer))
        try:
            await print_messages(reader)
        finally:
            sending.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri", nargs="?", default="ws://127.0.0.1:9002")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.uri))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (FlowserveError, OSError) as error:
        sys.exit(f"client.py: {error}")
