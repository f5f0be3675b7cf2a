"""flowserve's client against the servers of others: `python -m compliance.interop --client`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compliance._servers import (
    HOST,
    Progress,
    ServerFailed,
    flowserve_command,
    flowserve_env,
    flowserve_version,
    free_port,
    serving,
)
from compliance.interop.corpus import write
from compliance.interop.servers import SERVERS, Peer, Place, available
from compliance.performance.environment import Environment

CLIENT = Path(__file__).resolve().parent / "clients" / "library.py"
IN_FLIGHT = "8"
PATIENCE = 300.0  # seconds that the client may take
CHECKS = ("1 MiB", "subprotocol", "ping", "ping back", "close", "close back")
RUNS = (("shared", False), ("takeover", False), ("shared", True))  # the context of compression, and whether over TLS

Row = dict[str, Any]


@contextlib.contextmanager
def target(peer: Peer, environment: Environment, tls: bool) -> Iterator[str]:
    """The server's address, without a path."""
    port, upstream = free_port(), free_port()
    certificate = (environment.certfile, environment.keyfile) if tls else ("", "")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory, contextlib.ExitStack() as stack:
        place = Place(port, Path(directory), *certificate, upstream)
        if peer.proxy:
            behind = flowserve_command(sys.executable, "asgi:app", SERVERS, upstream, "--lifespan", "off")
            stack.enter_context(serving(behind, port=upstream, cwd=SERVERS))
        stack.enter_context(serving(peer.command(place), port=port, cwd=SERVERS))
        yield f"{'wss' if tls else 'ws'}://{HOST}:{port}"


def talk(peer: Peer, environment: Environment, context: str, tls: bool, corpus: Path, pure: bool) -> Row:
    """What the client reports, or {"error": ...}."""
    try:
        with target(peer, environment, tls) as url:
            given = [url, str(corpus), IN_FLIGHT, context, "1" if peer.pings else "0", environment.ca if tls else ""]
            done = subprocess.run(
                [sys.executable, str(CLIENT), *given],
                cwd=SERVERS,
                env={**os.environ, **flowserve_env(pure)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
            )
        printed = done.stdout.strip().splitlines() or ["it printed nothing"]
        report: Row = json.loads(printed[-1]) if done.returncode == 0 else {"error": printed[-1]}
        return report
    except (ServerFailed, subprocess.TimeoutExpired, ValueError) as problem:
        return {"error": str(problem)}


def row(peer: Peer, context: str, tls: bool, number: int, got: Row) -> Row:
    return {
        "server": peer.name,
        "version": peer.version,
        "context": context,
        "TLS": "yes" if tls else "no",
        "extensions": got.get("extensions") or "none",
        "messages": number,
        "lost": number - got.get("came", 0),
        "changed": got.get("changed", 0),
        "seconds": round(got.get("seconds") or 0.0, 2),
        **{check: got.get(check, "not run") for check in CHECKS},
        "error": got.get("error", ""),
    }


def table(rows: list[Row]) -> str:
    """Markdown."""
    columns = ("server", "version", "context", "TLS", "extensions", "messages", "lost", "changed", "seconds", *CHECKS)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * 5 + "--:|" * 4 + "---|" * len(CHECKS)]
    for one in rows:
        cells = [f"`{one[name]}`" if name == "extensions" else str(one[name]) for name in columns]
        lines.append("| " + " | ".join(cells) + " |" + (f" {one['error']}" if one["error"] else ""))
    return "\n".join(lines) + "\n"


def is_bad(one: Row) -> bool:
    return bool(one["lost"] or one["changed"] or one["error"] or any(one[check] not in ("ok", "-") for check in CHECKS))


def main(number: int, pure: bool, output: Path) -> int:
    """The command: `number` messages to each server; client.json and client.md go to `output`."""
    progress = Progress()
    try:
        version = flowserve_version(sys.executable, pure, SERVERS)
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 1
    peers, environment = available(progress)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        corpus = Path(directory) / "corpus"
        write(corpus, number)
        for peer in peers:
            for context, tls in RUNS:
                progress.show(f"{peer.name}, {context}{', over TLS' * tls}")
                rows.append(row(peer, context, tls, number, talk(peer, environment, context, tls, corpus, pure)))
    progress.clear()
    text = table(rows) + "".join(f"\n{note}.\n" for note in environment.notes)
    print(text)
    about = f"Written by `python -m compliance.interop --client` on {time.strftime('%Y-%m-%d')}, with {version}.\n"
    document = {"flowserve": version, "notes": environment.notes, "results": rows}
    output.mkdir(parents=True, exist_ok=True)
    (output / "client.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (output / "client.md").write_text(f"# Interoperation of the client\n\n{about}\n{text}")
    return 1 if any(is_bad(one) for one in rows) else 0
