"""The command: every case with every layer, beside each other."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from compliance._servers import (
    CHECKOUT,
    HOST,
    Progress,
    ServerFailed,
    cpu_seconds,
    flowserve_command,
    flowserve_version,
    free_port,
    serving,
)
from compliance.channels.cases import CASES, LAYERS, OURS, Case, Layer
from compliance.channels.crowd import Crowd
from compliance.topics.stores import Store, missing

PACKAGES = ("channels", "channels_redis", "msgpack", "websockets")


@dataclass
class Outcome:
    """What came of a case with a layer."""

    case: str
    layer: str
    said: int
    """Messages to the group."""
    raised: int
    """Of those, the ones for which group_send() has raised, so that the sender knows."""
    deliveries: int
    """Members times messages that were not raised."""
    lost: int
    doubled: int
    closed: int
    """WebSockets that the server has closed."""
    cpu: float
    """Microseconds of the servers' processes, by deliveries that came."""
    redis_cpu: float


async def attend(case: Case, port: int, store: Store | None, server: int) -> tuple[Crowd, float, float]:
    """Run a case; return the crowd, and what it has cost the servers and Redis in seconds of CPU time."""
    crowd = Crowd(port)
    try:
        await crowd.enter(case.members, case.query)
        before = cpu_seconds(server), cpu_seconds(store.process.pid) if store else 0.0
        redis = store.process.pid if store else 0
        await case.run(crowd, store)
        await crowd.finish()
        same = store is not None and store.process.pid == redis
        redis_cpu = cpu_seconds(store.process.pid) - (before[1] if same else 0.0) if store else 0.0
        return crowd, cpu_seconds(server) - before[0], redis_cpu
    finally:
        await crowd.leave()


def run(case: Case, layer: Layer) -> Outcome:
    """Run a case with a layer. Raises ServerFailed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.ExitStack() as stack:
        store = Store(Path(folder), "--save", "", "--appendonly", "yes") if layer.redis else None
        if store is not None:
            stack.callback(store.end)
        url = f"redis://{HOST}:{store.port}" if store else ""
        port = free_port()
        options = ["--workers", "2", *(["--topics-url", url] if url and layer.backend == OURS else [])]
        command = flowserve_command(sys.executable, "compliance.channels.application:app", CHECKOUT, port, *options)
        env = {"COMPLIANCE_LAYER": json.dumps(layer.settings(url))}
        server = stack.enter_context(serving(command, port=port, env=env))
        deadline = time.monotonic() + 30
        while "workers serve on" not in server.log.read_text(errors="replace"):
            if time.monotonic() > deadline:
                raise server.failed("not all workers serve")
            time.sleep(0.05)
        crowd, cpu, redis_cpu = asyncio.run(attend(case, port, store, server.pid))
    deliveries = (crowd.said - len(crowd.raised)) * case.members
    came = max(1, sum(len(each) for each in crowd.heard))
    return Outcome(
        case=case.name,
        layer=layer.name,
        said=crowd.said,
        raised=len(crowd.raised),
        deliveries=deliveries,
        lost=crowd.lost,
        doubled=crowd.doubled,
        closed=crowd.closed,
        cpu=round(cpu / came * 1e6, 1),
        redis_cpu=round(redis_cpu / came * 1e6, 1),
    )


def table(outcomes: list[Outcome]) -> str:
    """The results, in Markdown."""
    lines = [
        "| case | layer | messages | raised | deliveries | lost | doubled | closed | CPU, us a delivery | of Redis |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    abouts = {case.name: case.about for case in CASES}
    for each in outcomes:
        cells = [each.said, each.raised, each.deliveries, each.lost, each.doubled, each.closed]
        numbers = " | ".join(f"{cell:,}" for cell in cells)
        lines.append(
            f"| `{each.case}`: {abouts[each.case]} | {each.layer} | {numbers} | {each.cpu:.0f} | {each.redis_cpu:.0f} |"
        )
    return "\n".join(lines)


def write(folder: Path, outcomes: list[Outcome]) -> None:
    """Write results.json and results.md."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    about = f"{flowserve_version(sys.executable, False, CHECKOUT)}, {versions}"
    head = f"# Channels\n\nWritten by `python -m compliance.channels` on {time.strftime('%Y-%m-%d')}, with {about}.\n\n"
    (folder / "results.md").write_text(head + table(outcomes) + "\n")
    results = {"about": about, "outcomes": [asdict(each) for each in outcomes]}
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance.channels",
        description="Counts the messages that layers of Django Channels lose, beside each other, on two workers. Exit "
        "status 1: flowserve's has lost or doubled one.",
    )
    names, layers = [case.name for case in CASES], [layer.name for layer in LAYERS]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--layer", action="append", choices=layers, metavar="NAME", help=f"of {', '.join(layers)}")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write results.json and results.md there")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(names):
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    options, progress = parse(), Progress()
    lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if lacking or missing("redis"):
        print(missing("redis") or f"pip install {' '.join(lacking)}", file=sys.stderr)
        return 1
    outcomes: list[Outcome] = []
    try:
        for case in CASES:
            for layer in LAYERS:
                wanted = case.name in (options.cases or [case.name]) and layer.name in (options.layer or [layer.name])
                if wanted and (layer.redis or not case.redis):
                    progress.show(f"{case.name}: {layer.name}")
                    outcomes.append(run(case, layer))
                    progress.clear()
                    print(outcomes[-1], flush=True)
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    if options.output:
        write(options.output, outcomes)
    ours = [each for each in outcomes if each.layer.startswith("flowserve")]
    return 1 if any(each.lost or each.doubled for each in ours) else 0


if __name__ == "__main__":
    sys.exit(main())
