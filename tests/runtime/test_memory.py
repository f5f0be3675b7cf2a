"""The memory of a serving process, its garbage collector and its allocator, seen from an application in it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.request

import pytest
from support.helpers import LONGEST_TEST, within

APP = """
import ctypes, gc, json

gc_at_import = gc.get_freeze_count()

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

def mapped():
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return None
    libc.mallinfo2.restype = Info
    before = libc.mallinfo2().hblks
    blocks = [bytes(256 * 1024) for _ in range(20)]
    return libc.mallinfo2().hblks - before

async def app(scope, receive, send):
    state = {"frozen": gc.get_freeze_count(), "at_import": gc_at_import, "threshold": gc.get_threshold()}
    state["mapped"] = mapped()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(state).encode()})
"""


async def served(folder, prelude: str = "") -> dict:
    """What the application says in a process of its own."""
    (folder / "main.py").write_text(prelude + APP)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flowserve", "main:app", "--port", "0", "--lifespan", "off"),
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert process.stderr is not None
        while b"http://" not in (line := await within(process.stderr.readline(), LONGEST_TEST / 2)):
            assert line, "it ended"
        url = re.findall(r"http://\S+", line.decode())[0]
        body = await within(asyncio.to_thread(lambda: urllib.request.urlopen(url).read()), 30)
        return json.loads(body)
    finally:
        process.terminate()
        await within(process.communicate(), LONGEST_TEST / 2)


async def test_what_is_loaded_is_not_looked_through_again(tmp_path):
    state = await served(tmp_path)
    assert state["at_import"] == 0
    assert state["frozen"] > 10_000
    assert state["threshold"][0] >= 5000


async def test_an_applications_own_settings_stay(tmp_path):
    assert (await served(tmp_path, "import gc\ngc.set_threshold(0, 7, 9)\n"))["threshold"] == [0, 7, 9]
    assert (await served(tmp_path, "import gc\ngc.set_threshold(50000, 7, 9)\n"))["threshold"] == [50000, 7, 9]


async def test_the_blocks_that_event_loops_read_into_are_not_got_from_the_system_each_time(tmp_path):
    mapped = (await served(tmp_path))["mapped"]
    if mapped is None:
        pytest.skip("not a C library that tells")
    assert mapped == 0
