"""A client that sends what it is given, line by line, and prints what comes: `echo hello | python client.py URI`."""

import asyncio
import sys

from flowserve import ConnectionClosed, Reader, Writer, connect


async def send_lines(writer: Writer) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await writer.send(line.rstrip("\n"))
    await writer.close()


async def print_messages(reader: Reader) -> None:
    try:
        async for message in reader:
            print(message, flush=True)
    except ConnectionClosed as error:
        print(error, file=sys.stderr)


async def main(uri: str) -> None:
    async with connect(uri) as ws:
        reader, writer = ws.split()
        await asyncio.gather(send_lines(writer), print_messages(reader))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:9002"))
