"""Connections that live long spread evenly over workers."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import pytest
from support.helpers import within

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux spreads by SO_REUSEPORT")

WORKERS = 4
CONNECTIONS = 1000
REQUEST = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"


async def test_a_thousand_connections_over_four_workers(start):
    """The fullest worker has at most 1.4 times what the emptiest has.

    The kernel picks by a hash of the addresses, so that the counts are those of a fair die with four sides: of 1,000
    throws the ratio is above 1.4 with a probability of 0.0011 (summed exactly over the multinomial distribution). So
    three rounds are thrown and the middle one counts, which a fair die fails with 3 * 0.0011^2 = 4e-6. A kernel or
    a server that prefers one worker fails in all rounds.
    """
    program = await start("--workers", str(WORKERS))
    ratios = []
    for _ in range(3):
        writers: list[asyncio.StreamWriter] = []
        counts: Counter[bytes] = Counter()
        for _ in range(CONNECTIONS // 100):
            answers = await within(asyncio.gather(*(held(program.address, writers) for _ in range(100))), 20)
            counts.update(answers)
        assert len(counts) == WORKERS
        assert counts.total() == CONNECTIONS
        ratios.append(max(counts.values()) / min(counts.values()))
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
    assert sorted(ratios)[1] <= 1.4, ratios


async def held(address: tuple[str, int], writers: list[asyncio.StreamWriter]) -> bytes:
    """Open a connection that stays, and give the worker that has it."""
    reader, writer = await asyncio.open_connection(*address)
    writers.append(writer)
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return (await reader.readexactly(length)).split()[0]
