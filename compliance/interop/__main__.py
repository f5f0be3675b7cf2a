"""The command: every client against an echo on flowserve, in both contexts of compression."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compliance._servers import (
    CHECKOUT,
    Progress,
    Server,
    ServerFailed,
    flowserve_command,
    flowserve_env,
    flowserve_version,
    free_port,
    serving,
)
from compliance.interop import client
from compliance.interop.corpus import write
from compliance.interop.peers import Peer, available

HERE = Path(__file__).resolve().parent
CONTEXTS = ("shared", "takeover")
PATIENCE = 300.0  # seconds a client may take

Row = dict[str, Any]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.interop",
        description="Clients of others send messages of mixed sizes to an echo on flowserve, and compare the answers.",
    )
    parser.add_argument(
        "--client", action="store_true", help="flowserve's client against the servers of others instead"
    )
    parser.add_argument("--messages", type=int, default=1000, help="how many each client sends (default: 1000)")
    parser.add_argument("--pure", action="store_true", help="without the compiled modules")
    parser.add_argument(
        "--output", type=Path, default=HERE, help="where results.json and .md (client.json and .md) go (default: here)"
    )
    return parser.parse_args()


def talk(peer: Peer, server: Server, corpus: Path, report: Path) -> Row:
    """Run one client to its end: what it reports, or {"error": ...}."""
    report.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        process = subprocess.Popen(
            peer.command(server.port, corpus, Path(directory)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if peer.posts else subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            if peer.posts:
                return posted(process, report)
            printed = process.communicate(timeout=PATIENCE)[0].strip().splitlines() or ["it printed nothing"]
            row: Row = json.loads(printed[-1]) if process.returncode == 0 else {"error": printed[-1]}
            return row
        except (subprocess.TimeoutExpired, ValueError) as problem:
            return {"error": str(problem)}
        finally:
            if process.poll() is None or peer.posts:
                end_group(process)
            process.communicate()


def end_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def posted(process: subprocess.Popen[str], report: Path) -> Row:
    """Wait for what the browser posts to the application."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if report.exists():
            row: Row = json.loads(report.read_text())
            return row
        if process.poll() is not None:
            return {"error": f"it ended with status {process.returncode}"}
        time.sleep(0.05)
    return {"error": f"no report within {PATIENCE:.0f} s"}


def run_context(context: str, peers: list[Peer], options: argparse.Namespace, progress: Progress) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        corpus, report = Path(directory) / "corpus", Path(directory) / "report"
        write(corpus, options.messages)
        env = {**flowserve_env(options.pure), "INTEROP_CORPUS": str(corpus), "INTEROP_REPORT": str(report)}
        port = free_port()
        command = flowserve_command(
            sys.executable, "application:app", HERE, port, "--ws-deflate-context", context, "--lifespan", "off"
        )
        with serving(command, port=port, env=env) as server:
            for peer in peers:
                progress.show(f"{context}: {peer.name}")
                got = talk(peer, server, corpus, report)
                rows.append(row(peer.name, context, options.messages, got))
    progress.clear()
    return rows


def row(name: str, context: str, number: int, got: Row) -> Row:
    return {
        "client": name,
        "version": got.get("version", "?"),
        "context": context,
        "extensions": got.get("extensions") or "none",
        "messages": number,
        "lost": number - got.get("came", 0),
        "changed": got.get("changed", 0),
        "seconds": round(got.get("seconds") or 0.0, 2),
        "error": got.get("error", ""),
    }


def table(rows: list[Row]) -> str:
    """Markdown."""
    columns = ("client", "version", "context", "extensions", "messages", "lost", "changed", "seconds")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * 4 + "--:|" * 4]
    for one in rows:
        cells = [f"`{one[name]}`" if name == "extensions" else str(one[name]) for name in columns]
        lines.append("| " + " | ".join(cells) + " |" + (f" {one['error']}" if one["error"] else ""))
    return "\n".join(lines) + "\n"


def main() -> int:
    options = parse()
    if options.client:
        return client.main(options.messages, options.pure, options.output)
    progress = Progress()
    try:
        version = flowserve_version(sys.executable, options.pure, CHECKOUT)
        peers, notes = available(progress)
        rows = [one for context in CONTEXTS for one in run_context(context, peers, options, progress)]
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 1
    rows.sort(key=lambda one: [peer.name for peer in peers].index(one["client"]))
    plain = {one["client"] for one in rows if one["extensions"] == "none" and not one["error"]}
    notes += [f"{name} knows no compression" for name in sorted(plain)]
    text = table(rows) + "".join(f"\n{note}.\n" for note in notes)
    print(text)
    about = f"Written by `python -m compliance.interop` on {time.strftime('%Y-%m-%d')}, with {version}.\n"
    document = {"flowserve": version, "notes": notes, "results": rows}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (options.output / "results.md").write_text(f"# Interoperation\n\n{about}\n{text}")
    return 1 if any(one["lost"] or one["changed"] or one["error"] for one in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
