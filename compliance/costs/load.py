"""The peers: raw sockets that send prebuilt bytes as fast as they are taken, a thread for each connection."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from compliance._servers import HOST

_READ = 1 << 18
_STALL = 0.4
"""Seconds without progress after which a peer that can't send gives up: backpressure holds it."""
_ANSWER = 10.0
"""Seconds that an answer may take, on a busy machine."""


@dataclass(frozen=True)
class Conversation:
    """What one connection sends. `opening` goes first and alone: its answer's head is waited for."""

    pieces: Sequence[bytes]
    """Each one is a write, and with the kernel's help a segment, of its own."""
    opening: bytes = b""
    by_turns: bool = False
    """Wait for some bytes in answer to each piece."""
    reads: bool = True
    """Take what the server sends."""
    leaves: bool = False
    """Close at the end, having seen the server's close or an answer; else stay until the pattern is over."""
    tls: bool = False


class Load:
    """All conversations of a pattern: `sent()` is true when none has anything left that the server takes."""

    def __init__(self, port: int, conversations: Sequence[Conversation], at_once: int) -> None:
        """`at_once`: how many connections at a time, where they leave."""
        self.bytes = 0
        self.answered = 0  # bytes
        self._closed: set[socket.socket] = set()  # by the server
        self._port = port
        self._waiting = list(reversed(conversations))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._busy = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(min(at_once, len(conversations)))
        ]

    @property
    def closed(self) -> int:
        """Connections that the server has closed or reset, as far as their clients have looked."""
        return len(self._closed)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run to the end of sending; meanwhile connections stay, and are closed afterwards."""
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            self._busy.acquire()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()
            for sock in self._open:
                sock.close()

    def _work(self) -> None:
        staying: list[Callable[[], None]] = []
        try:
            while True:
                with self._lock:
                    if not self._waiting:
                        break
                    conversation = self._waiting.pop()
                sock = self._connect(conversation)
                try:
                    try:
                        self._talk(sock, conversation)
                    except OSError:  # it may be refused, and reset
                        self._count_closed(sock)
                finally:
                    if conversation.leaves:
                        sock.close()
                    else:
                        self._open.append(sock)
                        if conversation.reads and not conversation.tls:
                            staying.append(lambda sock=sock: self._take(sock))  # type: ignore[arg-type,misc]
        finally:
            self._busy.release()
        while staying and not self._over.wait(0.005):
            for take in staying:
                with contextlib.suppress(OSError):
                    take()

    def _connect(self, conversation: Conversation) -> socket.socket:
        sock = socket.create_connection((HOST, self._port), timeout=_ANSWER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if conversation.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        return sock

    def _talk(self, sock: socket.socket, conversation: Conversation) -> None:
        if conversation.opening:
            self._send(sock, conversation.opening)
            self._await_head(sock)
        if not conversation.tls:
            sock.setblocking(False)
        for piece in conversation.pieces:
            if not self._send(sock, piece, conversation.reads and not conversation.by_turns) or (
                conversation.by_turns and not self._take(sock, _ANSWER)
            ):
                return
        if conversation.leaves and conversation.reads and not conversation.by_turns:
            while self._take(sock, _STALL):
                pass

    def _send(self, sock: socket.socket, data: bytes, reads: bool = False) -> bool:
        """Send all of `data`, reading meanwhile; False when it is not taken."""
        rest = memoryview(data)
        began = time.monotonic()
        while rest:
            try:
                count = sock.send(rest)
            except (BlockingIOError, ssl.SSLWantWriteError):
                count = 0
            if count:
                rest, began = rest[count:], time.monotonic()
                with self._lock:
                    self.bytes += count
            if reads and not isinstance(sock, ssl.SSLSocket):
                self._take(sock)
            if rest and not count:
                if time.monotonic() - began > _STALL:
                    return False
                select.select([sock] if reads else [], [sock], [], 0.05)
        return True

    def _take(self, sock: socket.socket, seconds: float = 0.0) -> bool:
        """Read what is there, or comes within the time. False: nothing, or the end."""
        if seconds and not isinstance(sock, ssl.SSLSocket) and not select.select([sock], [], [], seconds)[0]:
            return False
        try:
            taken = len(sock.recv(_READ))
        except BlockingIOError:
            return False
        if not taken:
            self._count_closed(sock)
        with self._lock:
            self.answered += taken
        return taken > 0

    def _count_closed(self, sock: socket.socket) -> None:
        with self._lock:
            self._closed.add(sock)

    def _await_head(self, sock: socket.socket) -> None:
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = sock.recv(65536)
            if not data:
                raise ConnectionResetError
            answer += data
        with self._lock:
            self.answered += len(answer)
