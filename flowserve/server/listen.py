"""Sockets to listen on, and TLS contexts. Every failure is a ConfigError that says what to do."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from contextlib import suppress

from flowserve.config import Config
from flowserve.errors import ConfigError

_CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def bind(config: Config) -> list[socket.socket]:
    """Return the bound sockets that the configuration names, not yet listening. Raises ConfigError."""
    if config.fd is not None:
        return [_inherited(config.fd)]
    if config.uds is not None:
        return [_unix(config.uds)]
    return _tcp(config.host, config.port)


def _tcp(host: str, port: int) -> list[socket.socket]:
    """One socket for each address that `host` stands for; with port 0 all on the port that the first one gets."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host: {host!r} is not an address of this machine ({error}); try 127.0.0.1") from None
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            if family not in (socket.AF_INET, socket.AF_INET6):
                continue
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if not port and len(sockets) > 1:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sock.bind(address)
            except OSError as error:
                raise ConfigError(_why_not(f"{address[0]!s} port {address[1]!s}", error)) from None
            sock.setblocking(False)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _why_not(where: str, error: OSError) -> str:
    hints = {
        errno.EADDRINUSE: "the address is in use; stop the other server or choose another --port",
        errno.EACCES: "permission denied; choose a --port from 1024 on",
        errno.EADDRNOTAVAIL: "no such address on this machine; choose another --host",
    }
    return f"can't listen on {where}: {hints.get(error.errno or 0, error.strerror)}"


def _unix(path: str) -> socket.socket:
    """A UNIX domain socket at `path`; one that a dead server left there is replaced, a live one is not."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path):
            _remove_stale(path)
        sock.bind(path)
        os.chmod(path, 0o666)  # a proxy usually runs as another user
    except OSError as error:
        sock.close()
        raise ConfigError(f"--uds: can't listen on {path!r}: {error.strerror or error}") from None
    except ConfigError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise ConfigError(f"--uds: {path!r} exists and is not a socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise ConfigError(f"--uds: another server listens on {path!r}; stop it or choose another path")


def remove_path(sock: socket.socket) -> None:
    """Remove the path of a UNIX domain socket."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        with suppress(OSError):
            os.unlink(sock.getsockname())


def _inherited(descriptor: int) -> socket.socket:
    """The socket that a parent process left open, with the family that it really has."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError(f"--fd: descriptor {descriptor} is not an open socket ({error.strerror})") from None
    if sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise ConfigError(f"--fd: descriptor {descriptor} is a socket, but not a stream socket")
    sock.setblocking(False)
    return sock


def tls_context(config: Config) -> ssl.SSLContext | None:
    """Return the TLS context that the --ssl options describe, None without a certificate. Raises ConfigError."""
    if config.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    password = config.ssl_keyfile_password
    for flag, path in (("--ssl-certfile", config.ssl_certfile), ("--ssl-keyfile", config.ssl_keyfile)):
        _check_readable(flag, path)
    try:
        # Without a password an encrypted key must be an error, never a prompt.
        context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile, lambda: password or "")
    except ssl.SSLError as error:
        raise ConfigError(_why_not_tls(config, error)) from None
    if config.ssl_ca_certs is not None:
        _check_readable("--ssl-ca-certs", config.ssl_ca_certs)
        try:
            context.load_verify_locations(config.ssl_ca_certs)
        except ssl.SSLError:
            raise ConfigError(f"--ssl-ca-certs: {config.ssl_ca_certs!r} has no certificate in PEM form") from None
    context.verify_mode = _CERT_REQS[config.ssl_cert_reqs]
    if config.ssl_ciphers is not None:
        try:
            context.set_ciphers(config.ssl_ciphers)
        except ssl.SSLError:
            raise ConfigError(f"--ssl-ciphers: OpenSSL knows no cipher in {config.ssl_ciphers!r}") from None
    return context


def _check_readable(flag: str, path: str | None) -> None:
    if path is not None:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise ConfigError(f"{flag}: can't read {path!r}: {error.strerror}") from None


def _why_not_tls(config: Config, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"--ssl-keyfile: the key does not belong to the certificate in {config.ssl_certfile!r}"
    key = config.ssl_keyfile or config.ssl_certfile
    if error.reason in ("BAD_DECRYPT", "BAD_PASSWORD_READ") or "PASSWORD" in str(error).upper():
        return f"--ssl-keyfile-password: it does not open the key in {key!r}"
    return f"--ssl-certfile: {config.ssl_certfile!r} and {key!r} don't hold a certificate and its key in PEM form"
