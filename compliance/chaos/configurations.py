"""What the server is run with."""

from __future__ import annotations

from dataclasses import dataclass

TIMEOUTS = {
    "ws-ping-interval": 2,
    "ws-ping-timeout": 4,
    "ws-close-timeout": 3,
    "timeout-header": 5,
    "timeout-body": 3,
    "timeout-response": 3,
    "timeout-keep-alive": 2,
    "timeout-graceful-shutdown": 3,
}
"""Seconds: short, so that clients that have gone silent are found out within a run; long enough for a busy machine."""
MAX_SIZE = 1024 * 1024
SLOW_MARK = 512 * 1024


@dataclass(frozen=True)
class Configuration:
    """One row: its name says it all."""

    loop: str
    tls: bool
    policy: str
    compression: str
    pure: bool = False
    workers: int = 1
    quick: bool = False

    @property
    def name(self) -> str:
        parts = [self.loop, "tls" if self.tls else "plain", self.policy, self.compression]
        parts += ["pure"] * self.pure + [f"workers-{self.workers}"] * (self.workers > 1)
        return "-".join(parts)

    def options(self, certificate: str, patience: int = 1) -> list[str]:
        """The command line; every timeout is `patience` times as long."""
        deflate = ["--ws-per-message-deflate=off"]
        if self.compression != "none":
            deflate = [f"--ws-deflate-context={self.compression}", "--ws-deflate-threshold=64"]
        return [
            f"--loop={self.loop}",
            f"--workers={self.workers}",
            f"--ws-slow-consumer={self.policy}",
            f"--ws-max-size={MAX_SIZE}",
            f"--ws-slow-consumer-mark={SLOW_MARK}",
            "--log-format=json",
            *deflate,
            *(f"--{name}={seconds * patience}s" for name, seconds in TIMEOUTS.items()),
            *([f"--ssl-certfile={certificate}", f"--ssl-handshake-timeout={3 * patience}s"] if self.tls else []),
        ]


CONFIGURATIONS = (
    Configuration("uvloop", False, "wait", "shared", quick=True),
    Configuration("asyncio", False, "drop", "takeover", quick=True),
    Configuration("uvloop", True, "close", "takeover", quick=True),
    Configuration("asyncio", True, "wait", "none", quick=True),
    Configuration("asyncio", False, "wait", "takeover", pure=True, quick=True),
    Configuration("uvloop", False, "wait", "shared", workers=2, quick=True),
    Configuration("uvloop", False, "wait", "takeover"),
    Configuration("uvloop", False, "drop", "shared"),
    Configuration("uvloop", False, "close", "none"),
    Configuration("asyncio", False, "wait", "shared"),
    Configuration("asyncio", False, "close", "shared"),
    Configuration("uvloop", True, "wait", "takeover"),
    Configuration("uvloop", True, "drop", "none"),
    Configuration("asyncio", True, "drop", "shared"),
    Configuration("asyncio", True, "close", "takeover"),
    Configuration("uvloop", True, "drop", "takeover", pure=True),
    Configuration("asyncio", True, "close", "shared", pure=True),
    Configuration("uvloop", False, "wait", "none", pure=True),
)
