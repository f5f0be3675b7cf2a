"""Peers that send garbage, reset and vanish."""

from __future__ import annotations

import contextlib
import os
import random
import socket

from compliance._servers import HOST
from compliance.faults.faults import fault
from compliance.faults.rig import Command, Rig, certificate, expect

SHOTS = 400
LINGER_NONE = b"\1\0\0\0\0\0\0\0"
"""Of SO_LINGER: close() resets."""
HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n"


def shoot(command: Command, pieces: list[bytes]) -> None:
    """Connections that begin with one of the pieces, cut somewhere, changed, or followed by noise; many reset."""
    chance = random.Random(7)
    assert isinstance(command.place, int)
    for _ in range(SHOTS):
        data = bytearray(chance.choice(pieces) + chance.randbytes(chance.choice((0, 1, 5, 300))))
        if data and chance.random() < 0.5:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        sock = socket.create_connection((HOST, command.place), 10)
        with contextlib.suppress(OSError):
            sock.sendall(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.5 else data)
            if chance.random() < 0.3:
                sock.settimeout(0.02)
                sock.recv(10)
        if chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        sock.close()


def hello() -> bytes:
    """A TLS client's first flight."""
    import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def unharmed(command: Command, prefix: bytes = b"") -> str:
    expect(command.serves(prefix), "it does not serve any more")
    expect(not command.complaints(), f"tracebacks: {command.text()[-500:]}")
    expect("rror" not in command.text(), f"errors in the log: {command.text()[-500:]}")
    descriptors = len(os.listdir(f"/proc/{command.pid}/fd"))
    return f"{SHOTS} connections; it serves, nothing at ERROR in the log, {descriptors} descriptors open"


@fault("it serves on, and its log stays quiet", both_loops=True)
def tls_garbage(rig: Rig) -> str:
    """Garbage, halves and resets instead of a TLS handshake."""
    (rig.folder / "server.pem").write_text(certificate(rig.folder, "old-certificate"))
    command = rig.start("--ssl-certfile", str(rig.folder / "server.pem"), "--no-access-log")
    shoot(command, [hello(), b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff", b"SSH-2.0-x\r\n"])
    return unharmed(command)


@fault("it serves on, and its log stays quiet", both_loops=True)
def proxy_garbage(rig: Rig) -> str:
    """Garbage, halves and resets instead of a PROXY header."""
    command = rig.start("--proxy-protocol", "--no-access-log", hello=HEADER)
    binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)
    shoot(command, [HEADER, binary, HEADER + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PROXY UNKNOWN\r\n", b"GET /"])
    return unharmed(command, HEADER)


@fault("it serves on, and its log stays quiet", both_loops=True)
def proxy_and_tls_garbage(rig: Rig) -> str:
    """Garbage and resets behind a PROXY header, instead of a TLS handshake."""
    (rig.folder / "server.pem").write_text(certificate(rig.folder, "old-certificate"))
    file = str(rig.folder / "server.pem")
    command = rig.start("--ssl-certfile", file, "--proxy-protocol", "--no-access-log", ready=False)
    command.wait_said("Listening on")
    shoot(command, [HEADER + hello(), HEADER, HEADER + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", HEADER + b"\x16\x03\x01"])
    expect(not command.complaints(), f"tracebacks: {command.text()[-500:]}")
    sock = socket.create_connection((HOST, int(command.place)), 10)
    sock.sendall(HEADER)
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(sock) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(tls.recv(15) == b"HTTP/1.1 200 OK", "it does not serve any more")
    return f"{SHOTS} connections; it serves, no traceback"
