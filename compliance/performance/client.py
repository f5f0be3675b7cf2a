"""What a message costs a client: flowserve's beside others, all against one and the same echo.

`python -m compliance.performance --client`
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
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
from compliance.performance.environment import Environment, installed, prepare
from compliance.performance.report import Results, brief, conclude, middle, number, ratio
from compliance.performance.servers import APPS

SERVER_CORE, CLIENT_CORE = 0, 1


@dataclass(frozen=True)
class ClientCase:
    """One kind of traffic: `size` is the payload of a text message in bytes, `in_flight` counts for each connection."""

    name: str
    title: str
    size: int
    in_flight: int
    connections: int = 20


@dataclass(frozen=True)
class ClientPeer:
    """A client that apps/client.py knows as `program`. `needs` is the module without which it is left out."""

    name: str
    program: str
    needs: str
    env: dict[str, str] = field(default_factory=dict)


CASES = {
    case.name: case
    for case in (
        ClientCase("64x1", "64-byte text, 20 connections, 1 in flight", 64, 1),
        ClientCase("64x32", "64-byte text, 20 connections, 32 in flight", 64, 32),
        ClientCase("16Kx1", "16 KiB text, 20 connections, 1 in flight", 16 * 1024, 1),
        ClientCase("16Kx32", "16 KiB text, 20 connections, 32 in flight", 16 * 1024, 32),
    )
}
PEERS = {
    peer.name: peer
    for peer in (
        ClientPeer("floor", "floor", "uvloop"),
        ClientPeer("flowserve", "flowserve", "flowserve", flowserve_env(pure=False)),
        ClientPeer("flowserve-pure", "flowserve", "flowserve", flowserve_env(pure=True)),
        ClientPeer("websockets", "websockets", "websockets"),
        ClientPeer("aiohttp", "aiohttp", "aiohttp"),
        ClientPeer("picows", "picows", "picows"),
        ClientPeer("picows-websockets", "picows-websockets", "picows"),
    )
}
PROMISES = (  # case, peer, flowserve's CPU a message relative to the peer's: at most
    *((case, "websockets", 0.5) for case in CASES),
    *((case, "aiohttp", 1.0) for case in CASES),
    ("64x1", "picows", 1.1),
    ("16Kx1", "picows", 1.1),
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.performance --client",
        description="What a message costs each client's processor, side by side. Linux, two cores.",
    )
    parser.add_argument("--client", action="store_true", help="measure clients, not servers")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {','.join(CASES)} (default: all)")
    parser.add_argument("--clients", default=",".join(PEERS), help=f"of {','.join(PEERS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, interleaved (default: 5)")
    parser.add_argument("--duration", type=float, default=2.0, help="seconds that are measured (default: 2)")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before that (default: 0.5)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: a first impression")
    parser.add_argument("--python", help="measure what is installed for this interpreter, and install nothing")
    parser.add_argument("--output", type=Path, help="where client_results.json goes (default: the user's cache)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when flowserve breaks one of its promises")
    options = parser.parse_args()
    options.cases, options.clients = options.cases.split(","), options.clients.split(",")
    for kind, names, known in (("case", options.cases, CASES), ("client", options.clients, PEERS)):
        for name in names:
            if name not in known:
                parser.error(f"there is no {kind} {name!r}; there are {', '.join(known)}")
    if options.warmup + options.duration > 15:
        parser.error("--warmup and --duration together must stay below 15 s: no keepalive ping shall come between")
    if options.quick:
        options.rounds, options.duration = 1, 1.0
    return options


def measure(peer: ClientPeer, case: ClientCase, python: str, port: int, options: argparse.Namespace) -> dict[str, Any]:
    """One round of one case with one client: its figures, or {"error": ...}."""
    job = {
        "url": f"ws://{HOST}:{port}/",
        "connections": case.connections,
        "in_flight": case.in_flight,
        "size": case.size,
        "warmup": options.warmup,
        "duration": options.duration,
    }
    done = subprocess.run(
        [python, "client.py", peer.program, json.dumps(job)],
        cwd=APPS,
        env={**os.environ, **peer.env},
        capture_output=True,
        text=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, {CLIENT_CORE})) if (os.cpu_count() or 1) > 1 else None,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["the client failed"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def measure_all(python: str, names: list[str], options: argparse.Namespace, progress: Progress) -> Results:
    """All rounds. Clients take turns within a case, each against a fresh server: flowserve's, an echo."""
    results: Results = {}
    plan = [
        (turn, CASES[case], PEERS[name])
        for turn in range(1, options.rounds + 1)
        for case in options.cases
        for name in names
    ]
    began = time.monotonic()
    for done, (turn, case, peer) in enumerate(plan):
        left = (time.monotonic() - began) / done * (len(plan) - done) if done else 0
        progress.show(f"[{done + 1}/{len(plan)}] round {turn}, {case.name} {peer.name}, {left / 60:.0f} min left")
        port = free_port()
        command = flowserve_command(python, "applications:echo", APPS, port, "--log-level", "warning")
        core = SERVER_CORE if (os.cpu_count() or 1) > 1 else None
        try:
            with serving(command, port=port, env=flowserve_env(pure=False), cwd=APPS, core=core):
                one = measure(peer, case, python, port, options)
        except ServerFailed as error:
            one = {"error": str(error)}
        results.setdefault(case.name, {}).setdefault(peer.name, []).append({"round": turn, **one})
    progress.clear()
    return results


def summarise(results: Results) -> dict[str, dict[str, dict[str, float | str | None]]]:
    """Case -> client -> the medians, and the ratios to websockets and to the floor."""
    return {
        case: {
            name: {
                **{key: middle(rounds, key) for key in ("value", "per_second", "busy")},
                "to_websockets": ratio(rounds, clients.get("websockets", [])),
                "to_floor": ratio(rounds, clients.get("floor", [])),
                "error": next((one["error"] for one in rounds if "error" in one), None),
            }
            for name, rounds in clients.items()
        }
        for case, clients in results.items()
    }


def table(results: Results) -> str:
    """One block a case."""
    lines: list[str] = []
    for name, clients in summarise(results).items():
        lines.append(f"\n{name}: {CASES[name].title}")
        lines.append(f"  {'client':<19}{'CPU µs':>10}{'/websockets':>13}{'/floor':>8}{'per second':>12}{'busy':>6}")
        for client, row in clients.items():
            if row["value"] is None:
                lines.append(f"  {client:<19}{'failed':>10}  {brief(row['error'])}")
                continue
            lines.append(
                f"  {client:<19}{number(row['value']):>10}{number(row['to_websockets']):>13}"
                f"{number(row['to_floor']):>8}{number(row['per_second'], 0):>12}{number(row['busy']):>6}"
            )
            if row["error"]:
                lines.append(f"    in one of the rounds: {brief(row['error'])}")
    return "\n".join(lines)


def verdicts(results: Results) -> list[tuple[str, bool]]:
    """A line for each promise that the run has figures for, and whether it holds."""
    found = []
    for case, peer, most in PROMISES:
        clients = results.get(case, {})
        seen = ratio(clients.get("flowserve", []), clients.get(peer, []))
        if seen is not None:
            text = f"{case}: flowserve's CPU a message, at most {most:.2f} of {peer}'s: {seen:.2f}"
            found.append((text, seen <= most))
    return found


def versions_of(environment: Environment, names: list[str]) -> dict[str, str]:
    """Of the modules that the clients need, with a note for a flowserve that is not compiled."""
    versions = installed(environment, sorted({"flowserve", *(PEERS[name].needs for name in names)}))
    if "flowserve" in versions:
        versions["flowserve"] = flowserve_version(environment.python, False, APPS)
        if "(compiled)" not in versions["flowserve"]:
            environment.notes.append(f"flowserve is not compiled: {versions['flowserve']}")
    return versions


def main(machine: dict[str, Any]) -> int:
    """The command. `machine` says what the figures are taken on."""
    options = parse()
    progress = Progress()
    environment = prepare(options.python, ["flowserve"], progress)
    versions = versions_of(environment, options.clients)
    names = [name for name in options.clients if PEERS[name].needs in versions]
    environment.notes += [f"{name} is left out: not installed" for name in options.clients if name not in names]
    results = measure_all(environment.python, names, options, progress)
    print(table(results))
    promises = verdicts(results)
    about = {"machine": machine, "versions": versions, "summary": summarise(results)}
    conclude(results, promises, environment.notes, options.output, "client_results.json", about)
    return 1 if options.check and not all(kept for _, kept in promises) else 0
