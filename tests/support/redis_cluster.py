"""A Redis cluster of a test's own."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from compliance._servers import free_port
from flowserve.topics.redis.slots import PARTITIONS, partition_of
from support.helpers import within
from support.redis_server import RedisServer

cluster_needed = pytest.mark.skipif(
    (shutil.which("redis-server") is None or shutil.which("redis-cli") is None)
    and os.environ.get("FLOWSERVE_CI") != "1",
    reason="redis-server and redis-cli are not installed",
)

SLOTS = 16384


class Node(RedisServer):
    """A node, which keeps nothing over a restart unless its options say so."""

    def __init__(self, *options: str, tls: Path | None = None) -> None:
        """`tls` is where server.pem is, with the node's key and certificates, and the CA's ca.pem."""
        port, bus = free_port(), free_port()
        cluster = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000")
        speed = ("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
        super().__init__(*cluster, *speed, *(() if tls is None else _tls(port, tls)), *options, port=port)
        self.tls = tls is not None
        self.bus = bus
        self.id = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        await super().start()
        self.id = await self.call("CLUSTER", "MYID")


def _tls(port: int, folder: Path) -> tuple[str, ...]:
    """The options of a node that speaks nothing but TLS, and tells clients its name, as managed clusters do."""
    return (
        *("--port", "0", "--tls-port", str(port), "--tls-cluster", "yes", "--tls-replication", "yes"),
        *("--tls-cert-file", f"{folder}/server.pem", "--tls-key-file", f"{folder}/server.pem"),
        *("--tls-ca-cert-file", f"{folder}/ca.pem"),
        *("--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"),
    )


class RedisCluster:
    """Three masters, and `replicas` of the first one."""

    def __init__(self, *options: str, replicas: int = 0, tls: Path | None = None) -> None:
        """`tls` as for Node."""
        self.masters = [Node(*options, tls=tls) for _ in range(3)]
        self.replicas = [Node(*options, tls=tls) for _ in range(replicas)]

    @property
    def nodes(self) -> Sequence[Node]:
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        """One that names a node that does not answer, too."""
        return f"redis+cluster://127.0.0.1:{free_port()},{self.masters[2].address}"

    async def start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.nodes))
        first, *others = self.nodes
        for epoch, node in enumerate(self.masters, 1):
            await node.call("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        bounds = [SLOTS * number // 3 for number in range(4)]
        for node, begin, end in zip(self.masters, bounds, bounds[1:], strict=False):
            await node.call("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        for node in others:
            await node.call("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus)
        await within(self._agreed())
        for node in self.replicas:
            await node.call("CLUSTER", "REPLICATE", first.id)
        await within(self._replicated(), 20)

    async def _agreed(self) -> None:
        for node in self.nodes:
            while not await self._knows_all(node):
                pass

    async def _knows_all(self, node: Node) -> bool:
        known = await node.call("CLUSTER", "NODES")
        up = "cluster_state:ok" in await node.call("CLUSTER", "INFO")
        return up and "handshake" not in known and len(known.splitlines()) == len(self.nodes)

    async def _replicated(self) -> None:
        for node in self.replicas:
            await self._replicated_by(node)

    async def owner(self, slot: int) -> Node:
        """The master that has a slot, as the last node says."""
        for first, last, master, *_ in await self.masters[2].call("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == master[1])
        raise AssertionError(f"nobody has the slot {slot}")

    async def slot_of(self, topic: str) -> int:
        """The slot of a topic."""
        return int(await self.masters[2].call("CLUSTER", "KEYSLOT", f"{{{partition_of(topic)}}}"))

    async def begin_move(self, slot: int, source: Node, target: Node) -> None:
        """Begin to move a slot."""
        await target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        await source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    async def move_keys(self, slot: int, source: Node, target: Node) -> None:
        """Move what is in it."""
        while keys := await source.call("CLUSTER", "GETKEYSINSLOT", slot, 10):
            await source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    async def end_move(self, slot: int, target: Node) -> None:
        """Give it to the target."""
        for node in (target, *(node for node in self.masters if node is not target)):
            await node.call("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    async def move(self, slot: int, target: Node) -> None:
        """Move a slot, as redis-cli does."""
        source = await self.owner(slot)
        await self.begin_move(slot, source, target)
        await self.move_keys(slot, source, target)
        await self.end_move(slot, target)

    async def until_master(self, node: Node) -> None:
        """Wait until a node is a master."""

        async def come() -> None:
            while "role:master" not in await node.call("INFO", "replication"):
                pass

        await within(come())

    async def fail_over(self, node: Node) -> None:
        """Make a replica the master, which goes on as its replica."""
        await within(self._replicated_by(node))
        assert await node.call("CLUSTER", "FAILOVER") == "OK"
        await self.until_master(node)

    async def _replicated_by(self, node: Node) -> None:
        while "master_link_status:up" not in await node.call("INFO", "replication"):
            pass
        for other in self.nodes:
            while not re.search(rf"^{node.id} .*\bslave ", await other.call("CLUSTER", "NODES"), re.MULTILINE):
                pass

    async def cli(self, *arguments: str) -> str:
        """Run redis-cli --cluster; what it says."""
        process = await asyncio.create_subprocess_exec(
            *("redis-cli", "--cluster", *arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            out, _ = await within(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
        assert process.returncode == 0, out.decode()
        return out.decode()

    async def close(self) -> None:
        for node in self.nodes:
            await node.close()


def topics_of_all_nodes(count: int = 1) -> list[str]:
    """Names of topics, so many for each partition."""
    found: dict[int, list[str]] = {index: [] for index in range(PARTITIONS)}
    number = 0
    while any(len(names) < count for names in found.values()):
        names: Any = found[partition_of(f"t{number}")]
        if len(names) < count:
            names.append(f"t{number}")
        number += 1
    return [name for names in found.values() for name in names]
