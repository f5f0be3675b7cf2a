"""The command: prepare, run the rounds interleaved, report."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compliance._servers import CHECKOUT, HOST, Progress, ServerFailed, flowserve_version, free_port, serving
from compliance.performance import client
from compliance.performance.cases import CASES, Case
from compliance.performance.chart import draw
from compliance.performance.environment import Environment, installed, prepare
from compliance.performance.promises import verdicts
from compliance.performance.report import Results, conclude, summarise, table
from compliance.performance.servers import APPS, PEERS, Peer, Place

SERVER_CORE, LOAD_CORE = 0, 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.performance",
        description="What a message costs each server's processor, side by side. Linux, two cores.",
    )
    parser.add_argument("--client", action="store_true", help="measure clients; `--client --help` tells of its options")
    every = ",".join(CASES)
    parser.add_argument("--cases", default=every, help=f"of {every} (default: all)")
    parser.add_argument("--servers", default=",".join(PEERS), help=f"of {','.join(PEERS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, interleaved (default: 3)")
    parser.add_argument("--duration", type=float, default=2.0, help="seconds that are measured (default: 2)")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before that (default: 0.5)")
    parser.add_argument("--hold", type=float, default=25.0, help="seconds that idle connections stay (default: 25)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: a first impression")
    parser.add_argument("--python", help="measure what is installed for this interpreter, and install nothing")
    parser.add_argument("--output", type=Path, help="where results.json and the charts go (default: the user's cache)")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="measure nothing: draw DIR's results.json anew")
    parser.add_argument("--check", action="store_true", help="exit with 1 when flowserve breaks one of its promises")
    options = parser.parse_args()
    options.cases = options.cases.upper().split(",")
    options.servers = options.servers.split(",")
    for name in options.cases:
        if name not in CASES:
            parser.error(f"there is no case {name!r}; there are {every}")
    for name in options.servers:
        if name not in PEERS:
            parser.error(f"there is no server {name!r}; there are {', '.join(PEERS)}")
    if options.warmup + options.duration > 15:
        parser.error("--warmup and --duration together must stay below 15 s: no keepalive ping shall come between")
    if options.quick:
        options.rounds, options.duration, options.hold = 1, 1.0, 3.0
    return options


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """An empty Redis, which stores nothing on disk, on the core of the load; its URL."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    with serving(command, port=port, core=core(LOAD_CORE)):
        yield f"redis://{HOST}:{port}"


def core(wanted: int) -> int | None:
    return wanted if (os.cpu_count() or 1) > 1 else None


def measure(peer: Peer, case: Case, environment: Environment, options: argparse.Namespace) -> dict[str, Any]:
    """One round of one case on one server: its figures, or {"error": ...}."""
    tls = (environment.certfile, environment.keyfile) if case.tls else ("", "")
    try:
        with contextlib.ExitStack() as stack:
            url = stack.enter_context(redis()) if peer.redis or case.redis else ""
            place = Place(environment.python, environment.bun, free_port(), *tls, url)
            command, env = peer.command(place, case), peer.environment(place, case)
            server = stack.enter_context(serving(command, port=place.port, env=env, cwd=APPS, core=core(SERVER_CORE)))
            job = {
                "case": case.name,
                "port": place.port,
                "pid": server.pid,
                "warmup": options.warmup,
                "duration": options.duration,
                "hold": options.hold,
                "ca": environment.ca,
                "redis": url,
            }
            done = subprocess.run(
                [environment.python, "-m", "compliance.performance.load", json.dumps(job)],
                cwd=CHECKOUT,
                capture_output=True,
                text=True,
                preexec_fn=None if core(0) is None else lambda: os.sched_setaffinity(0, {LOAD_CORE}),
            )
            if done.returncode:
                return {"error": (done.stderr.strip().splitlines() or ["the load generator failed"])[-1]}
            answer: dict[str, Any] = json.loads(done.stdout)
            if "error" in answer:
                answer["error"] = str(server.failed(answer["error"]))
            return answer
    except ServerFailed as error:
        return {"error": str(error)}


def measure_all(environment: Environment, names: list[str], options: argparse.Namespace, progress: Progress) -> Results:
    """All rounds. Servers take turns within a case, so that a change in the machine's mood meets all of them."""
    results: Results = {}
    with_redis = shutil.which("redis-server") is not None
    if not with_redis:
        environment.notes.append("what needs Redis is left out: redis-server is not installed")
    plan = [
        (turn, CASES[case], PEERS[name])
        for turn in range(1, options.rounds + 1)
        for case in options.cases
        for name in names
        if case in PEERS[name].cases and (with_redis or not (CASES[case].redis or PEERS[name].redis))
    ]
    began = time.monotonic()
    for done, (turn, case, peer) in enumerate(plan):
        left = (time.monotonic() - began) / done * (len(plan) - done) if done else 0
        progress.show(f"[{done + 1}/{len(plan)}] round {turn}, {case.name} {peer.name}, {left / 60:.0f} min left")
        one = {"round": turn, **measure(peer, case, environment, options)}
        results.setdefault(case.name, {}).setdefault(peer.name, []).append(one)
    progress.clear()
    return results


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": (models or [platform.machine()])[0],
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    options = parse()
    if options.draw is not None:
        try:
            draw(json.loads((options.draw / "results.json").read_text("utf-8"))["rounds"], options.draw)
        except OSError as error:
            sys.exit(f"--draw: {error}")
        return 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # servers and load inherit it
    progress = Progress()
    environment = prepare(options.python, options.servers, progress)
    versions = installed(environment, [PEERS[name].needs for name in options.servers])
    names = [name for name in options.servers if PEERS[name].needs in versions]
    environment.notes += [f"{name} is left out: not installed" for name in options.servers if name not in names]
    if "flowserve" in versions:
        try:
            versions["flowserve"] = flowserve_version(environment.python, False, APPS)
        except ServerFailed as error:
            versions["flowserve"] = str(error).splitlines()[0]
        if "(compiled)" not in versions["flowserve"]:
            environment.notes.append(f"flowserve is not compiled: {versions['flowserve']}")
    results = measure_all(environment, names, options, progress)
    print(table(results))
    promises = verdicts(results)
    about = {"machine": machine(), "versions": versions, "summary": summarise(results)}
    output = conclude(results, promises, environment.notes, options.output, "results.json", about)
    draw(results, output)
    return 1 if options.check and not all(kept for _, kept in promises) else 0


if __name__ == "__main__":
    sys.exit(client.main(machine()) if "--client" in sys.argv else main())
