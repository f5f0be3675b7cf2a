"""A client without asyncio: sends what it is given, line by line, and prints the answer to each.

`echo hello | python sync_client.py URI`
"""

import argparse
import os
import sys

from flowserve import FlowserveError
from flowserve.sync import connect

TIMEOUT = 10.0
"""Seconds to wait for an answer."""


def main(uri: str) -> None:
    with connect(uri) as ws, open(0, encoding="utf-8", errors="replace", closefd=False) as lines:
        for line in lines:
            ws.send(line.rstrip("\n"))
            print(ws.receive(timeout=TIMEOUT), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri", nargs="?", default="ws://127.0.0.1:9002")
    arguments = parser.parse_args()
    try:
        main(arguments.uri)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except (FlowserveError, OSError) as error:
        sys.exit(f"sync_client.py: {error}")
