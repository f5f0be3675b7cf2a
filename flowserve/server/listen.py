"""The sockets to listen on. Every failure is a ConfigError that says what to do."""

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
_SPREADS = sys.platform.startswith("linux") and hasattr(socket, "SO_REUSEPORT")
"""Whether SO_REUSEPORT spreads connections; elsewhere it exists, but the last socket that was bound gets them all."""
_TRIES, _TRY_AGAIN = 100, 0.01
"""How often, and after how many seconds, a lock is asked for that another server has while it makes its socket."""
_FIRST_PASSED = 3
_PASSED = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class _Address(NamedTuple):
    """Where a TCP socket is bound; the port is never 0."""

    family: int
    name: Any


class Listeners:
    """The sockets that the configuration names: bound, and listening only at a UNIX path (see _unix()); inherited ones
    stay as they are.

    With `many`, several workers can have sockets of their own at the same address and port, where the kernel spreads
    connections over them (SO_REUSEPORT on Linux). Without it, or elsewhere, all slots share slot 0's sockets.

    Without an option that says where to listen, sockets that systemd passes to this process are taken (LISTEN_FDS and
    LISTEN_PID, as in sd_listen_fds(3)); once they are, these variables are removed from `os.environ`.

    An IPv6 address of [::] stands for every interface, by IPv6 and by IPv4 with a socket for each, unless the
    configuration names an IPv4 address with that port too. Of a name's addresses those that this machine does not have
    are left out, unless it has none of them. Raises ConfigError.
    """

    def __init__(self, config: Config, many: bool = False) -> None:
        self._config = config
        self._many = many and _SPREADS
        self._owner = os.getpid()
        self._entries: list[_Address | socket.socket] = []  # what each slot has: a socket of its own, or the shared one
        self._slots: dict[int, list[socket.socket]] = {0: []}
        self.bound: list[socket.socket] = []  # those of slot 0 that nobody else has: TCP, and not inherited
        self._paths: list[tuple[str, tuple[int, int]]] = []
        try:
            for place in _places(config):
                self._open(place)
        except BaseException:
            self.close()
            raise

    def slot(self, index: int, share: bool = False) -> list[socket.socket]:
        """Return the sockets of worker slot `index`, opened on first use; with `share` those of slot 0.

        They stay this object's: it closes them.
        """
        if share or not self._many:
            index = 0
        if index not in self._slots:
            sockets = self._slots[index] = []
            for entry in self._entries:
                sockets.append(entry if isinstance(entry, socket.socket) else self._another(entry))
        return list(self._slots[index])

    def close_slot(self, index: int) -> None:
        """Close the sockets that only slot `index` has; what waits there to be accepted is reset."""
        if self._many:
            for sock in self._slots.pop(index, ()):
                if sock not in self._entries:
                    sock.close()

    def close(self) -> None:
        """Close all sockets and remove the paths that this object made; a forked process does not remove them."""
        for sockets in self._slots.values():
            for sock in sockets:
                sock.close()
        self._slots.clear()
        for path, identity in self._paths:
            if os.getpid() == self._owner:
                with suppress(OSError), _alone_in(os.path.dirname(path)):
                    if _identity(path) == identity:  # another server may have put its own there
                        os.unlink(path)
        self._paths.clear()

    def describe(self) -> list[str]:
        """Return where the sockets can be reached, as URLs."""
        return [url_of(sock, self._config) for sock in self.slot(0)]

    # Opening

    def _another(self, address: _Address) -> socket.socket:
        try:
            return _bound(*address, reuse_port=True)
        except OSError as error:
            raise ConfigError(_why_not(address.name, error)) from None

    def _open(self, place: Bind) -> None:
        if place.host is not None:
            self._open_tcp(place)
        elif place.path is not None:
            sock = _unix(place.path, place.mode, self._config.backlog)
            self._share(sock)
            self._paths.append((os.path.abspath(place.path), _identity(place.path)))
        elif place.fd is not None:
            flag = "--bind" if self._config.bind else "--fd"
            self._take(place.fd, f"{flag}: descriptor {place.fd}")
        else:
            for descriptor, name in _admit():
                self._take(descriptor, f"systemd: descriptor {descriptor} ({name})")
            for variable in _PASSED:
                os.environ.pop(variable, None)

    def _take(self, descriptor: int, called: str) -> None:
        if all(sock.fileno() != descriptor for sock in self._slots[0]):
            self._share(_inherited(descriptor, called))

    def _share(self, sock: socket.socket) -> None:
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
                if self._many and port:
                    # among sockets with SO_REUSEPORT another program's would not be noticed
                    _bound(family, name, reuse_port=False).close()
                sock = _bound(family, name, reuse_port=self._many)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise ConfigError(_why_not(name, error)) from None
                missing = ConfigError(_why_not(name, error))
                continue
            self._slots[0].append(sock)
            self.bound.append(sock)
            self._entries.append(_Address(family, sock.getsockname()) if self._many else sock)
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
    if not chosen and _is_for_us():
        return [Bind(systemd=True)]
    return [Bind(host=config.host, port=config.port)]


# TCP


def _resolve(place: Bind, places: tuple[Bind, ...]) -> Iterator[tuple[int, Any]]:
    """The families and socket addresses that a place stands for."""
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
    """Return sockets bound at `places`, which are hosts with ports; of their addresses at those of `family` alone, if
    it is not 0. With `reuse_port` other processes may have the same (SO_REUSEPORT). Raises ConfigError."""
    sockets: list[socket.socket] = []
    missing = ConfigError("family: none of the hosts has an address of that family")
    for place in places:
        port = place.port
        for kind, name in _resolve(place, tuple(places)):
            try:
                if family in (0, kind):
                    sockets.append(_bound(kind, (name[0], port, *name[2:]), reuse_port))
                    port = sockets[-1].getsockname()[1]
            except OSError as error:
                missing = ConfigError(_why_not(name, error))
                if error.errno not in _NOT_HERE:
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


def _bound(family: int, name: Any, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has sockets of its own, so that its clients' addresses look as they are
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(name)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _why_not(name: Any, error: OSError) -> str:
    hints = {
        errno.EADDRINUSE: "the address is in use; stop the other server or choose another port",
        errno.EACCES: "permission denied; choose a port from 1024 on",
        errno.EADDRNOTAVAIL: "no such address on this machine; choose another host",
        errno.EAFNOSUPPORT: "this machine has no such kind of address; choose another host",
    }
    return f"can't listen on {name[0]!s} port {name[1]!s}: {hints.get(error.errno or 0, error.strerror)}"


# UNIX domain


def _unix(path: str, mode: int, backlog: int) -> socket.socket:
    """A UNIX domain socket at `path`; one that a dead server left there is replaced, a live one is not.

    It listens at once, as only that shows to others that it is no dead server's. Clients wait in it until the
    application has started.
    """
    if _UNIX is None:
        raise ConfigError(f"can't listen on {path!r}: this system has no UNIX domain sockets")
    sock = socket.socket(_UNIX, socket.SOCK_STREAM)
    try:
        with _alone_in(os.path.dirname(path) or "."):
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
def _alone_in(folder: str) -> Iterator[None]:
    """Hold a lock on a folder, so that of two servers that start or end at once one sees what the other has made there.

    Where it can't be had the risk is taken: the folder may not be read, its file system may know no locks, or
    somebody else may hold it for longer.
    """
    descriptor = -1
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        _lock(descriptor)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    for _ in range(_TRIES):
        if fcntl is None:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_TRY_AGAIN)


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
            pass  # alive, with many waiting
    raise ConfigError(f"can't listen on {path!r}: another server listens there; stop it or choose another path")


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


# Inherited


def _is_for_us() -> bool:
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and "LISTEN_FDS" in os.environ


def _admit() -> list[tuple[int, str]]:
    """The descriptors that systemd passes to this process, with their names (sd_listen_fds(3))."""
    if not _is_for_us():
        raise ConfigError("--bind systemd: systemd passes no sockets to this process; start it by its .socket unit")
    count = os.environ["LISTEN_FDS"]
    if not (count.isascii() and count.isdigit()) or not 0 < int(count) < 100_000:
        raise ConfigError(f"systemd: LISTEN_FDS={count!r} is not a number of sockets")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    names += ["unknown"] * (int(count) - len(names))
    return [(_FIRST_PASSED + index, names[index] or "unknown") for index in range(int(count))]


def _inherited(descriptor: int, called: str) -> socket.socket:
    """The socket that another process left open, with the family that it really has."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigError(f"{called} is not an open socket ({error.strerror})") from None
    if sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6, _UNIX):
        sock.detach()
        raise ConfigError(f"{called} is a socket, but not a stream socket of TCP or UNIX")
    with suppress(OSError):
        sock.getpeername()
        sock.detach()
        raise ConfigError(f"{called} is one client's connection, not a socket to listen on (in systemd: Accept=no)")
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


# Names


def url_of(sock: socket.socket, config: Config) -> str:
    """Return where a bound socket can be reached, for the log."""
    scheme = "https" if config.ssl else "http"
    name = sock.getsockname()
    if not isinstance(name, tuple):
        shown = os.fsencode(unix_name(name)).decode("utf-8", "backslashreplace")  # a log may take no lone surrogates
        return f"{scheme}+unix:{shown}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{scheme}://{host}:{name[1]}"


def unix_name(name: str | bytes) -> str:
    """Return the name of a UNIX domain socket as text; one in Linux's abstract namespace begins with @."""
    text = os.fsdecode(name)
    return "@" + text[1:] if text.startswith("\0") else text
