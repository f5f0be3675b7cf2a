"""Opening the sockets to listen on. Every failure is a ConfigError that says what to do."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from flowserve.config import Config
from flowserve.config.addresses import Bind
from flowserve.config.config import OPTIONS
from flowserve.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_UNIX: int | None = getattr(socket, "AF_UNIX", None)
_REUSEPORT_BALANCES = sys.platform.startswith("linux") and hasattr(socket, "SO_REUSEPORT")
"""Whether SO_REUSEPORT distributes connections; on other systems the last bound socket gets them all."""
_LOCK_ATTEMPTS, _LOCK_INTERVAL = 100, 0.01
"""Attempts, and seconds between them, to get a lock that another server holds while it creates its socket."""
_LISTEN_FDS_START = 3
"""SD_LISTEN_FDS_START: the first descriptor that systemd passes (sd_listen_fds(3))."""
_LISTEN_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of addresses that this machine does not have."""


class _Address(NamedTuple):
    """The address of a bound TCP socket; the port is never 0."""

    family: int
    name: Any


class Listeners:
    """The sockets that the configuration names, bound. Only those at UNIX paths are listening already (see
    `_bind_unix()`); inherited ones are left as they are.

    With `separate`, each worker slot has sockets of its own at the same addresses and ports, over which the kernel
    distributes connections (SO_REUSEPORT on Linux). Without it, and on other systems, all slots share slot 0's sockets.

    If no option says where to listen, sockets that systemd passes to this process are used (LISTEN_FDS and LISTEN_PID,
    as in sd_listen_fds(3)); these variables are then removed from `os.environ`.

    The IPv6 address [::] stands for every interface, over IPv6 and IPv4 with a socket for each, unless the
    configuration names an IPv4 address with that port too. Addresses of a host name that this machine does not have are
    left out, unless it has none of them. Raises ConfigError.
    """

    def __init__(self, config: Config, separate: bool = False) -> None:
        self._config = config
        self._separate = separate and _REUSEPORT_BALANCES
        self._owner = os.getpid()
        # for each socket of a slot, the address of a separate one, or the shared socket
        self._entries: list[_Address | socket.socket] = []
        self._slots: dict[int, list[socket.socket]] = {0: []}
        self.bound: list[socket.socket] = []  # the sockets of slot 0 that no other process has: TCP, and not inherited
        self._paths: list[tuple[str, tuple[int, int]]] = []  # of UNIX sockets, with device and inode
        try:
            for place in _places(config):
                self._open_bind(place)
        except BaseException:
            self.close()
            raise

    def slot(self, index: int, share: bool = False) -> list[socket.socket]:
        """Return the sockets of worker slot `index`, opened on first use; with `share` those of slot 0. This object
        closes them."""
        if share or not self._separate:
            index = 0
        if index not in self._slots:
            sockets = self._slots[index] = []
            for entry in self._entries:
                sockets.append(entry if isinstance(entry, socket.socket) else self._bind_again(entry))
        return list(self._slots[index])

    def close_slot(self, index: int) -> None:
        """Close the sockets that only slot `index` has; connections that wait in their backlogs are reset."""
        if self._separate:
            for sock in self._slots.pop(index, ()):
                if sock not in self._entries:
                    sock.close()

    def close(self) -> None:
        """Close all sockets and remove the UNIX paths that this object created; a forked process does not remove
        them."""
        for sockets in self._slots.values():
            for sock in sockets:
                sock.close()
        self._slots.clear()
        for path, identity in self._paths:
            if os.getpid() == self._owner:
                with suppress(OSError), _locked_folder(os.path.dirname(path)):
                    if _device_and_inode(path) == identity:  # another server may have replaced it
                        os.unlink(path)
        self._paths.clear()

    def describe(self) -> list[str]:
        """Return the URLs of the sockets."""
        return [url_of(sock, self._config) for sock in self.slot(0)]

    # Opening

    def _bind_again(self, address: _Address) -> socket.socket:
        try:
            return _bind(*address, reuse_port=True)
        except OSError as error:
            raise ConfigError(_describe_error(address.name, error)) from None

    def _open_bind(self, place: Bind) -> None:
        if place.host is not None:
            self._open_tcp(place)
        elif place.path is not None:
            sock = _bind_unix(place.path, place.mode, self._config.backlog)
            self._add_shared(sock)
            self._paths.append((os.path.abspath(place.path), _device_and_inode(place.path)))
        elif place.fd is not None:
            flag = "--bind" if self._config.bind else "--fd"
            self._add_inherited(place.fd, f"{flag}: descriptor {place.fd}")
        else:
            for descriptor, name in _passed_sockets():
                self._add_inherited(descriptor, f"systemd: descriptor {descriptor} ({name})")
            for variable in _LISTEN_VARIABLES:
                os.environ.pop(variable, None)

    def _add_inherited(self, descriptor: int, description: str) -> None:
        if all(sock.fileno() != descriptor for sock in self._slots[0]):
            self._add_shared(_inherited_socket(descriptor, description))

    def _add_shared(self, sock: socket.socket) -> None:
        self._entries.append(sock)
        self._slots[0].append(sock)

    def _open_tcp(self, place: Bind) -> None:
        assert place.host is not None
        found, missing = 0, None
        port = place.port
        for family, name in _resolve(place, self._config.bind):
            name = (name[0], port, *name[2:])
            if any(sock.family == family and sock.getsockname() == name for sock in self._slots[0]):
                found += 1
                continue
            try:
                if self._separate and port:
                    # with SO_REUSEPORT alone a conflict with another program's socket would go unnoticed
                    _bind(family, name, reuse_port=False).close()
                sock = _bind(family, name, reuse_port=self._separate)
            except OSError as error:
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise ConfigError(_describe_error(name, error)) from None
                missing = ConfigError(_describe_error(name, error))
                continue
            self._slots[0].append(sock)
            self.bound.append(sock)
            self._entries.append(_Address(family, sock.getsockname()) if self._separate else sock)
            port = port or sock.getsockname()[1]
            found += 1
        if not found and missing is not None:
            raise missing


def _places(config: Config) -> list[Bind]:
    if config.bind:
        return list(config.bind)
    if config.fd is not None:
        return [Bind(fd=config.fd)]
    if config.uds is not None:
        return [Bind(path=config.uds)]
    chosen = (config.host, config.port) != (OPTIONS["host"].default, OPTIONS["port"].default)
    if not chosen and _has_passed_sockets():
        return [Bind(systemd=True)]
    return [Bind(host=config.host, port=config.port)]


# TCP


def _resolve(place: Bind, places: tuple[Bind, ...]) -> Iterator[tuple[int, Any]]:
    """Yield the families and socket addresses that `place` stands for."""
    flag = "--bind" if places else "--host"
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(
            f"{flag}: {place.host!r} is not an address of this machine ({error}); try 127.0.0.1"
        ) from None
    for family, _, _, _, name in dict.fromkeys(found):
        if family in (socket.AF_INET, socket.AF_INET6):
            yield family, name
        if name[0] == "::" and not any(_is_ipv4(other) and other.port == place.port for other in places):
            yield socket.AF_INET, ("0.0.0.0", place.port)


def open_sockets(places: Sequence[Bind], family: int = 0, reuse_port: bool = False) -> list[socket.socket]:
    """Return sockets bound at `places`, which have hosts and ports; of their addresses only those of `family` unless it
    is 0. With `reuse_port` other processes may bind the same (SO_REUSEPORT). Raises ConfigError."""
    sockets: list[socket.socket] = []
    missing = ConfigError("family: none of the hosts has an address of that family")
    for place in places:
        port = place.port
        for kind, name in _resolve(place, tuple(places)):
            try:
                if family in (0, kind):
                    sockets.append(_bind(kind, (name[0], port, *name[2:]), reuse_port))
                    port = sockets[-1].getsockname()[1]
            except OSError as error:
                missing = ConfigError(_describe_error(name, error))
                if error.errno not in _NO_SUCH_ADDRESS:
                    for sock in sockets:
                        sock.close()
                    raise missing from None
    if not sockets:
        raise missing
    return sockets


def _is_ipv4(place: Bind) -> bool:
    with suppress(OSError):
        socket.inet_pton(socket.AF_INET, place.host or "")
        return True
    return False


def _bind(family: int, name: Any, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has sockets of its own, so that client addresses are not IPv4-mapped
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(name)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _describe_error(name: Any, error: OSError) -> str:
    hints = {
        errno.EADDRINUSE: "the address is in use; stop the other server or choose another port",
        errno.EACCES: "permission denied; choose a port from 1024 on",
        errno.EADDRNOTAVAIL: "no such address on this machine; choose another host",
        errno.EAFNOSUPPORT: "this machine has no such kind of address; choose another host",
    }
    return f"can't listen on {name[0]!s} port {name[1]!s}: {hints.get(error.errno or 0, error.strerror)}"


# UNIX domain


def _bind_unix(path: str, mode: int, backlog: int) -> socket.socket:
    """Return a UNIX domain socket bound at `path`; one that a dead server left there is replaced, a live one is not.

    It listens at once, as that is how other servers recognise it as alive. Clients wait in its backlog until the
    application has started.
    """
    if _UNIX is None:
        raise ConfigError(f"can't listen on {path!r}: this system has no UNIX domain sockets")
    sock = socket.socket(_UNIX, socket.SOCK_STREAM)
    try:
        with _locked_folder(os.path.dirname(path) or "."):
            if os.path.lexists(path):
                _remove_stale(path)
            sock.bind(path)
            os.chmod(path, mode)
            sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ConfigError(f"can't listen on {path!r}: {error.strerror or error}") from None
    except ConfigError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


@contextmanager
def _locked_folder(folder: str) -> Iterator[None]:
    """Hold a lock on a folder, so that two servers that start or end at the same time see each other's sockets.

    Continues without the lock if it is not available: the folder may not be readable, its file system may not support
    locks, or another process may hold it for longer.
    """
    descriptor = -1
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        _try_lock(descriptor)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _try_lock(descriptor: int) -> None:
    for _ in range(_LOCK_ATTEMPTS):
        if fcntl is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_LOCK_INTERVAL)


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ConfigError(f"can't listen on {path!r}: it exists and is not a socket; choose another path")
    assert _UNIX is not None
    with socket.socket(_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # alive, with a full backlog
    raise ConfigError(f"can't listen on {path!r}: another server listens there; stop it or choose another path")


def _device_and_inode(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


# Inherited


def _has_passed_sockets() -> bool:
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and "LISTEN_FDS" in os.environ


def _passed_sockets() -> list[tuple[int, str]]:
    """Return the descriptors that systemd passes to this process, with their names (sd_listen_fds(3))."""
    if not _has_passed_sockets():
        raise ConfigError("--bind systemd: systemd passes no sockets to this process; start it by its .socket unit")
    count = os.environ["LISTEN_FDS"]
    if not (count.isascii() and count.isdigit()) or not 0 < int(count) < 100_000:
        raise ConfigError(f"systemd: LISTEN_FDS={count!r} is not a number of sockets")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    names += ["unknown"] * (int(count) - len(names))
    return [(_LISTEN_FDS_START + index, names[index] or "unknown") for index in range(int(count))]


def _inherited_socket(descriptor: int, description: str) -> socket.socket:
    """Return an inherited descriptor as a socket with its actual family. Raises ConfigError."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError(f"{description} is not an open socket ({error.strerror})") from None
    if sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6, _UNIX):
        sock.detach()
        raise ConfigError(f"{description} is a socket, but not a stream socket of TCP or UNIX")
    with suppress(OSError):
        sock.getpeername()
        sock.detach()
        raise ConfigError(
            f"{description} is one client's connection, not a socket to listen on (in systemd: Accept=no)"
        )
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


# Names


def url_of(sock: socket.socket, config: Config) -> str:
    """Return the URL of a bound socket, for the log."""
    scheme = "https" if config.ssl else "http"
    name = sock.getsockname()
    if not isinstance(name, tuple):
        # lone surrogates can't be encoded in a log
        shown = os.fsencode(unix_name(name)).decode("utf-8", "backslashreplace")
        return f"{scheme}+unix:{shown}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{scheme}://{host}:{name[1]}"


def unix_name(name: str | bytes) -> str:
    """Return the name of a UNIX domain socket as text; the NUL of Linux's abstract namespace becomes @."""
    text = os.fsdecode(name)
    return "@" + text[1:] if text.startswith("\0") else text
