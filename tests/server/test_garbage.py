"""The garbage collector of a serving process, seen from an application in it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request

from helpers import within

APP = """
import gc, json

gc_at_import = gc.get_freeze_count()

async def app(scope, receive, send):
    state = {"frozen": gc.get_freeze_count(), "at_import": gc_at_import, "threshold": gc.get_threshold()}
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
        while b"http://" not in (line := await within(process.stderr.readline(), 30)):
            assert line, "it ended"
        url = line.decode().split()[-1]
        body = await within(asyncio.to_thread(lambda: urllib.request.urlopen(url).read()), 30)
        return json.loads(body)
    finally:
        process.terminate()
        await within(process.communicate(), 30)


async def test_what_is_loaded_is_not_looked_through_again(tmp_path):
    state = await served(tmp_path)
    assert state["at_import"] == 0
    assert state["frozen"] > 10_000
    assert state["threshold"][0] >= 5000


async def test_an_applications_own_settings_stay(tmp_path):
    assert (await served(tmp_path, "import gc\ngc.set_threshold(0, 7, 9)\n"))["threshold"] == [0, 7, 9]
    assert (await served(tmp_path, "import gc\ngc.set_threshold(50000, 7, 9)\n"))["threshold"] == [50000, 7, 9]
