"""Redis, its Sentinel and Cluster, and NATS, as Debian has them: each scenario has its own, on free ports."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from compliance._servers import HOST, ServerFailed, free_port
from flowserve.errors import FlowserveError
from flowserve.topics.hub.open import open_hub
from flowserve.topics.settings import Settings

SERVICE = "topics"

_KINDS = {
    "": ("", None),
    "redis": ("redis-server", f"redis://{HOST}"),
    "sentinel": ("redis-sentinel", f"redis://{HOST}"),
    "cluster": ("redis-server", f"redis+cluster://{HOST}"),
    "nats": ("nats-server", f"nats://{HOST}"),
    "nats-memory": ("nats-server", f"nats://{HOST}"),
}
"""By kind of store: the program that it needs, and a URL that needs the same packages."""


def missing(kind: str) -> str:
    """What is missing on this machine for a kind of store, "" if nothing is."""
    program, url = _KINDS[kind]
    if program and shutil.which(program) is None:
        return f"{program} is not installed"
    try:
        open_hub(url, Settings())
    except FlowserveError as error:
        return str(error)
    return ""


class Store:
    """One process of a server, by default of redis-server or redis-sentinel."""

    def __init__(self, folder: Path, *options: str, sentinel_of: int = 0) -> None:
        self.port = free_port()
        self._folder = folder / str(self.port)
        self._folder.mkdir()
        self._command = self._arguments(*options)
        if sentinel_of:
            conf = self._folder / "sentinel.conf"
            lines = (
                f"port {self.port}",
                f"bind {HOST}",
                f"dir {self._folder}",
                f"sentinel monitor {SERVICE} {HOST} {sentinel_of} 1",
                f"sentinel down-after-milliseconds {SERVICE} 1000",
                f"sentinel failover-timeout {SERVICE} 3000",
            )
            conf.write_text("\n".join(lines) + "\n")
            self._command = ["redis-sentinel", str(conf)]
        self.start()

    def _arguments(self, *options: str) -> list[str]:
        return ["redis-server", "--port", str(self.port), "--bind", HOST, "--dir", str(self._folder), *options]

    def start(self) -> None:
        """Start it, and wait until it answers. Raises ServerFailed."""
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(OSError):
                if self._answers():
                    return
            time.sleep(0.05)
        raise ServerFailed(f"{self._command[0]} does not answer: {(self._folder / 'log').read_text()[-500:]}")

    def _answers(self) -> bool:
        return self.ask("PING").startswith("+PONG")

    def ask(self, command: str) -> str:
        """Send an inline command, and return the beginning of the answer."""
        with socket.create_connection((HOST, self.port), timeout=5) as sock:
            sock.sendall(command.encode() + b"\r\n")
            return sock.recv(65536).decode()

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        self.process.wait(10)


class ClusterNode(Store):
    """One process of redis-server in a cluster."""

    def _arguments(self, *options: str) -> list[str]:
        self.bus = free_port()
        cluster = ("--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-node-timeout", "1000")
        return super()._arguments(*cluster, "--cluster-replica-validity-factor", "0", *options)

    @property
    def id(self) -> str:
        """Its name in the cluster."""
        return self.ask("CLUSTER MYID").split("\r\n")[1]


_SLOTS = 16384
_MASTERS = 3


def _start_cluster(folder: Path, stores: list[Store]) -> None:
    """Start three masters, and a replica of the first one."""
    nodes = []
    for _ in range(_MASTERS + 1):
        nodes.append(ClusterNode(folder, "--save", "", "--appendonly", "yes"))
        stores.append(nodes[-1])
    first, *others = nodes
    for number, node in enumerate(nodes[:_MASTERS]):
        begin, end = _SLOTS * number // _MASTERS, _SLOTS * (number + 1) // _MASTERS
        node.ask(f"CLUSTER SET-CONFIG-EPOCH {number + 1}")
        node.ask(f"CLUSTER ADDSLOTSRANGE {begin} {end - 1}")
    for node in others:
        node.ask(f"CLUSTER MEET {HOST} {first.port} {first.bus}")
    known = f"cluster_known_nodes:{len(nodes)}"
    _wait(lambda: all(known in info and "cluster_state:ok" in info for info in (n.ask("CLUSTER INFO") for n in nodes)))
    nodes[-1].ask(f"CLUSTER REPLICATE {first.id}")
    _wait(lambda: "master_link_status:up" in nodes[-1].ask("INFO replication"))


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise ServerFailed("the nodes of a Redis cluster do not find each other")
        time.sleep(0.05)


class NATSStore(Store):
    """One process of nats-server."""

    def _arguments(self, *options: str) -> list[str]:
        return ["nats-server", "-a", HOST, "-p", str(self.port), "-js", "-sd", str(self._folder), *options]

    def _answers(self) -> bool:
        with socket.create_connection((HOST, self.port), timeout=5) as sock:
            sock.sendall(b"CONNECT {}\r\nPING\r\n")
            return b"PONG" in sock.recv(65536) + sock.recv(65536)

    def purge(self) -> None:
        """Remove all messages."""
        with socket.create_connection((HOST, self.port), timeout=5) as sock:
            sock.sendall(b"CONNECT {}\r\nSUB answer 1\r\nPUB $JS.API.STREAM.PURGE.flowserve answer 0\r\n\r\n")
            answer = b""
            while b'"success":true' not in answer:
                got = sock.recv(65536)
                if not got or b'"error"' in answer:
                    raise ServerFailed(f"NATS purges nothing: {answer!r}")
                answer += got


def start(kind: str, folder: Path) -> tuple[list[Store], str]:
    """Start the stores of a kind; return them and the URL for --topics-url."""
    stores: list[Store] = []
    if kind.startswith("nats"):
        stores.append(NATSStore(folder))
        return stores, f"nats://{HOST}:{stores[0].port}{'?storage=memory' if kind == 'nats-memory' else ''}"
    try:
        if kind == "cluster":
            _start_cluster(folder, stores)
            return stores, f"redis+cluster://{','.join(f'{HOST}:{node.port}' for node in stores)}"
        stores.append(Store(folder, "--save", "", "--appendonly", "yes"))
        if kind == "redis":
            return stores, f"redis://{HOST}:{stores[0].port}"
        stores.append(Store(folder, "--save", "", "--replicaof", f"{HOST} {stores[0].port}"))
        stores.append(Store(folder, sentinel_of=stores[0].port))
        return stores, f"redis+sentinel://{HOST}:{stores[2].port}/{SERVICE}"
    except BaseException:
        for store in stores:
            store.end(signal.SIGKILL)
        raise
