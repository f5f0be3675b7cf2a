"""Clients that are programs of their own: JavaScript in Node, and Python in the row's environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from compliance.frameworks.site import Site
from compliance.interop.peers import CHROMIUM_FLAGS

CLIENTS = Path(__file__).resolve().parent / "clients"
PATIENCE = 120.0
"""Seconds that a client may take for all that it does."""


def talk(client: str, site: Site) -> dict[str, str]:
    """Run clients/CLIENT against the site: check -> 'ok' or why it failed.

    A client is given the site's port, the directory of the npm packages and the browser, and prints an object a line:
    {"check": NAME, "failed": REASON or ""}. When it ends otherwise than well, that is a failed check.
    """
    runner = "node" if client.endswith(".mjs") else site.interpreter
    command = [runner, str(CLIENTS / client), str(site.port), site.npm, site.browser]
    env = {**os.environ, "CHROMIUM_FLAGS": json.dumps(CHROMIUM_FLAGS)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=CLIENTS, env=env)
    except subprocess.TimeoutExpired as late:
        return {**outcomes(text(late.stdout)), f"{client} ends": f"still running after {PATIENCE:.0f} s"}
    said = done.stderr.strip().splitlines() or ["no word"]
    ended = "ok" if done.returncode == 0 else f"status {done.returncode}: {said[-1]}"[:200]
    return {**outcomes(done.stdout), f"{client} ends": ended}


def text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def outcomes(printed: str) -> dict[str, str]:
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith('{"check"')]
    return {line["check"]: line["failed"][:200] or "ok" for line in lines}
