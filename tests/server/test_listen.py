"""Where the server listens: several places at once, both IP families, UNIX paths, inherited and systemd's sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import textwrap

import pytest
from support.helpers import LONGEST_TEST, Client, echo, hello, within

from flowserve import Config
from flowserve.errors import ConfigError
from flowserve.server.listen import Listeners

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")

GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
spreads = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SO_REUSEPORT spreads on Linux only")


@pytest.fixture
def listeners():
    """`listeners(bind="...", separate=True, **options)`"""
    with contextlib.ExitStack() as stack:

        def open_them(bind="", separate=False, **options):
            made = Listeners(Config("a:b", bind=bind, **options), separate)
            stack.callback(made.close)
            return made

        yield open_them


@contextlib.contextmanager
def free_port():
    """A port that stays free: held by a socket that nobody listens on, beside which others can be bound."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def reachable(sock: socket.socket):
    """Where a client finds a socket that may be bound to every interface."""
    name = sock.getsockname()
    return (LOOPBACK[sock.family], name[1]) if isinstance(name, tuple) else name


async def ask(connect, server, sock: socket.socket) -> Client:
    """A client whose request is on its way through `sock`."""
    server.address, server.family = reachable(sock), sock.family
    client = await connect(server)
    await client.raw(GET)
    return client


def refusal(**options) -> str:
    with pytest.raises(ConfigError) as caught:
        Listeners(Config("a:b", **options)).close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Several at once


@pytest.mark.both_loops
async def test_tcp_and_unix_at_once(serve, stage, connect, logs, tmp_path):
    path = str(tmp_path / "s")
    with free_port() as port:
        server = await serve(stage, bind=f"127.0.0.1:0 unix:{path},mode=660 127.0.0.1:{port}")
    first, unix, second = server.server.sockets
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    for sock in (first, second):
        client = await ask(connect, server, sock)
        act = await stage.next()
        assert tuple(act.scope["client"]) == client.address
        assert tuple(act.scope["server"]) == sock.getsockname()
        await act.answer()
        assert f'{client.address[0]}:{client.address[1]} - "GET / HTTP/1.1" 200' in logs.lines("flowserve.access")[-1]
    await ask(connect, server, unix)
    act = await stage.next()
    assert act.scope["client"] is None
    assert list(act.scope["server"]) == [path, None]
    await act.answer()
    assert logs.lines("flowserve.access")[-1].startswith('unix - "GET / HTTP/1.1" 200')
    urls = f"http://127.0.0.1:{first.getsockname()[1]}", f"http+unix:{path}", f"http://127.0.0.1:{port}"
    assert [line for line in logs.lines() if "Listening" in line] == [f"Listening on {url}" for url in urls]


def test_two_names_for_one_place(listeners):
    with free_port() as port:
        made = listeners(f"127.0.0.1:{port} localhost:{port} 127.0.0.1:{port}")
        names = [sock.getsockname()[:2] for sock in made.slot(0)]
    assert names.count(("127.0.0.1", port)) == 1
    assert set(names) <= {("127.0.0.1", port), ("::1", port)}


def test_one_wrong_place_of_several_leaves_none_open(tmp_path):
    with free_port() as port:
        assert "192.0.2.1" in refusal(bind=f"127.0.0.1:{port} unix:{tmp_path / 's'} 192.0.2.1:{port}")
        assert not (tmp_path / "s").exists()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            sock.listen()


def test_refusals(tmp_path):
    assert "no such address on this machine" in refusal(host="192.0.2.1", port=0)
    assert refusal(bind="no.such.host.invalid:0").startswith("--bind: 'no.such.host.invalid' is not an address")
    assert refusal(host="no.such.host.invalid").startswith("--host: 'no.such.host.invalid' is not an address")
    assert "No such file or directory" in refusal(uds=str(tmp_path / "nowhere" / "s"))
    assert "path too long" in refusal(bind=f"unix:{tmp_path}/{'s' * 200}")
    with socket.create_server(("127.0.0.1", 0)) as other:
        message = refusal(port=other.getsockname()[1])
        assert re.fullmatch(r"can't listen on 127\.0\.0\.1 port \d+: the address is in use; .*", message)


# IPv4 and IPv6


@ipv6
@pytest.mark.both_loops
@pytest.mark.parametrize("option", [{"host": "::"}, {"bind": "[::]:0"}])
async def test_every_interface_is_of_both_families(serve, stage, connect, option):
    server = await serve(stage, **option)
    assert {sock.family for sock in server.server.sockets} == {socket.AF_INET, socket.AF_INET6}
    assert len({sock.getsockname()[1] for sock in server.server.sockets}) == 1
    for sock in server.server.sockets:
        client = await ask(connect, server, sock)
        act = await stage.next()
        assert tuple(act.scope["client"]) == client.address
        assert tuple(act.scope["server"]) == (LOOPBACK[sock.family], sock.getsockname()[1])
        await act.answer()


@ipv6
@pytest.mark.parametrize("other", ["127.0.0.1", "0.0.0.0"])
def test_every_interface_beside_an_ipv4_address(listeners, other):
    with free_port() as port:
        for places in (f"[::]:{port} {other}:{port}", f"{other}:{port} [::]:{port}"):
            made = listeners(places)
            assert {sock.getsockname()[:2] for sock in made.slot(0)} == {("::", port), (other, port)}
            made.close()


@ipv6
async def test_one_ipv6_address_is_not_ipv4(serve):
    server = await serve(hello, bind="[::1]:0")
    assert [sock.getsockname()[0] for sock in server.server.sockets] == ["::1"]
    assert server.server.sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_addresses_of_a_name_that_are_not_here_are_left_out(listeners, monkeypatch):
    """As localhost's ::1 on a machine without IPv6."""
    real = socket.getaddrinfo

    def resolve(host, port, **options):
        return [each for name in ("192.0.2.1", "127.0.0.1") for each in real(name, port, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert [sock.getsockname()[0] for sock in listeners("name:0").slot(0)] == ["127.0.0.1"]


# UNIX paths


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_mode(listeners, tmp_path, mode):
    listeners(f"unix:{tmp_path / 's'},mode={mode:o}")
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode


def test_path_of_a_live_server(listeners, tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen(0)
        assert "another server listens there" in refusal(uds=path)
        with contextlib.ExitStack() as stack:  # nor if so many wait there that one more can't
            with contextlib.suppress(BlockingIOError):
                while True:
                    waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                    waiting.setblocking(False)
                    waiting.connect(path)
            assert "another server listens there" in refusal(uds=path)


def test_path_of_a_server_that_starts(listeners, tmp_path):
    """It listens from the beginning: to connect is refused by a socket that is only bound, as by a dead server's."""
    path = str(tmp_path / "s")
    listeners(f"unix:{path}")
    assert "another server listens there" in refusal(uds=path)


RACE = """
import sys, time
from flowserve import Config, ConfigError
from flowserve.server.listen import Listeners
print("ready", flush=True)
sys.stdin.readline()
try:
    listeners = Listeners(Config("a:b", uds=sys.argv[1]))
except ConfigError:
    print("refused", flush=True)
else:
    print("listens", flush=True)
    sys.stdin.readline()
"""


def test_of_those_that_start_at_once_one_gets_the_path(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    command = (sys.executable, "-c", RACE, path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(4)]
        for each in racers:
            assert each.stdout.readline() == "ready\n"
        for each in racers:
            each.stdin.write("go\n")
        assert sorted(each.stdout.readline() for each in racers) == ["listens\n"] + ["refused\n"] * 3
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_only_an_own_path_is_removed(listeners, tmp_path):
    path = tmp_path / "s"
    made = listeners(f"unix:{path}")
    path.unlink()
    other = listeners(f"unix:{path}")
    made.close()
    assert path.exists()
    other.close()
    assert not path.exists()


FORK = """
import os, sys
from flowserve import Config
from flowserve.server.listen import Listeners
listeners = Listeners(Config("a:b", uds=sys.argv[1]))
child = os.fork()
if not child:
    listeners.close()
    os._exit(0)
os.waitpid(child, 0)
assert os.path.exists(sys.argv[1])
listeners.close()
assert not os.path.exists(sys.argv[1])
"""


def test_a_forked_process_removes_no_path(tmp_path):
    subprocess.run([sys.executable, "-c", FORK, str(tmp_path / "s")], check=True, timeout=LONGEST_TEST / 2)


# Slots


@spreads
async def test_each_slot_has_sockets_of_its_own(listeners, tmp_path):
    made = listeners(f"127.0.0.1:0 unix:{tmp_path / 's'}", separate=True)
    slots = [made.slot(index) for index in range(2)]
    (one, unix), (other, same) = slots
    assert unix is same
    assert one is not other
    assert one.getsockname() == other.getsockname()
    assert made.slot(1)[0] is other
    assert made.slot(1, share=True)[0] is one
    for sock in (one, other):
        sock.listen(128)
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(one.getsockname()))
        for sock in (one, other):  # both got some: by chance that fails once in 2**99 times
            accepted, _ = sock.accept()
            accepted.close()
    made.close_slot(1)
    assert other.fileno() == -1
    assert -1 not in (one.fileno(), unix.fileno())
    again = made.slot(1)
    assert again[0].getsockname() == one.getsockname()
    made.close()
    assert {sock.fileno() for sock in (one, unix, *again)} == {-1}


def test_one_server_shares_one_socket(listeners):
    made = listeners("127.0.0.1:0")
    assert made.slot(0) == made.slot(3)
    made.close_slot(3)
    assert made.slot(0)[0].fileno() != -1


@spreads
@pytest.mark.parametrize("separate", [False, True])
def test_a_port_is_not_shared_with_another_program(listeners, separate):
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match="the address is in use"):
            listeners(f"127.0.0.1:{port}", separate=separate)


@spreads
@ipv6
def test_slots_of_both_families(listeners):
    made = listeners("[::]:0", separate=True)
    assert [sock.getsockname() for sock in made.slot(0)] == [sock.getsockname() for sock in made.slot(5)]
    assert len(made.slot(5)) == 2
    assert made.describe()[0].startswith("http://[::]:")


# Inherited


@contextlib.contextmanager
def inherited(tmp_path, listening: bool):
    """Sockets of each family, as another process would leave them open."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for family, name in (
            (socket.AF_INET, ("127.0.0.1", 0)),
            *([(socket.AF_INET6, ("::1", 0))] if has_ipv6() else []),
            (socket.AF_UNIX, str(tmp_path / "inherited")),
        ):
            sock = stack.enter_context(socket.socket(family))
            sock.bind(name)
            if listening:
                sock.listen()
            sockets.append(sock)
        yield sockets


@pytest.mark.both_loops
@pytest.mark.parametrize("listening", [True, False])
async def test_inherited_descriptors_of_each_family(serve, stage, connect, tmp_path, listening):
    with inherited(tmp_path, listening) as sockets:
        server = await serve(stage, bind=[f"fd:{os.dup(sock.fileno())}" for sock in sockets])
        for sock in sockets:
            client = await ask(connect, server, sock)
            act = await stage.next()
            if sock.family == socket.AF_UNIX:
                assert (act.scope["client"], tuple(act.scope["server"])) == (None, (sock.getsockname(), None))
            else:
                assert tuple(act.scope["client"]) == client.address
                assert tuple(act.scope["server"]) == sock.getsockname()[:2]
            await act.answer()
        await within(server.server.shutdown())
        assert (tmp_path / "inherited").exists(), "whoever made it removes it"


@ipv6
@pytest.mark.both_loops
async def test_ipv4_through_an_inherited_socket_for_both_families(serve, stage, connect, logs):
    """As systemd opens them: the client is 127.0.0.1, not ::ffff:127.0.0.1."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        port = sock.getsockname()[1]
        server = await serve(stage, fd=os.dup(sock.fileno()))
        server.address, server.family = ("127.0.0.1", port), socket.AF_INET
        client = await connect(server)
        await client.raw(GET)
        act = await stage.next()
        assert tuple(act.scope["client"]) == client.address
        assert tuple(act.scope["server"]) == ("127.0.0.1", port)
        await act.answer()
        assert logs.lines("flowserve.access")[-1].startswith(f"127.0.0.1:{client.address[1]} - ")


@spreads
@pytest.mark.both_loops
async def test_abstract_unix_socket(serve, stage, connect, logs):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("")  # Linux takes a free name
        sock.listen()
        name = os.fsdecode(sock.getsockname()[1:])
        server = await serve(stage, fd=os.dup(sock.fileno()))
        assert f"Listening on http+unix:@{name}" in logs.lines()
        await ask(connect, server, sock)
        act = await stage.next()
        assert tuple(act.scope["server"]) == ("@" + name, None)
        await act.answer()


def test_a_descriptor_named_twice(listeners):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        descriptor = os.dup(sock.fileno())
        assert len(listeners(f"fd:{descriptor} fd:{descriptor}").slot(0)) == 1


def test_descriptors_that_are_no_listening_sockets(tmp_path):
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        number = datagrams.fileno()
        assert refusal(fd=number) == f"--fd: descriptor {number} is a socket, but not a stream socket of TCP or UNIX"
        assert datagrams.getsockname(), "it was not closed"
    with (tmp_path / "file").open("w") as file:
        number = file.fileno()
        assert refusal(bind=f"fd:{number}").startswith(f"--bind: descriptor {number} is not an open socket")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert "one client's connection" in refusal(fd=client.fileno())
        assert client.getpeername(), "it was not closed"


# systemd

LAUNCHER = """
import os, sys
count, names, *command = sys.argv[1:]
for number in range(int(count)):
    os.dup2(int(os.environ.pop(f"SOCKET_{number}")), 3 + number)
os.environ.update(LISTEN_PID=os.environ.get("LISTEN_PID") or str(os.getpid()), LISTEN_FDS=count, LISTEN_FDNAMES=names)
os.execv(sys.executable, [sys.executable, "-m", "flowserve", *command])
"""
"""Does what systemd does to a service with sockets (sd_listen_fds(3))."""

SHOW = """
import os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    lines = [f"{scope['client']} {scope['server']}"] + [key for key in os.environ if key.startswith("LISTEN_")]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": "\\n".join(lines).encode()})
"""


@pytest.fixture
async def launch(tmp_path):
    """`process = await launch(sockets, *options, names="", **environment)`: flowserve as systemd starts it."""
    (tmp_path / "show.py").write_text(SHOW)
    processes = []

    async def start(sockets, *options, names="", **environment):
        # numbers that are not in the way of those that they are to get
        high = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
        copies = [os.dup(sock.fileno()) for sock in sockets]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("FLOWSERVE_", "LISTEN_"))}
        if "FLOWSERVE_PURE" in os.environ:
            kept["FLOWSERVE_PURE"] = os.environ["FLOWSERVE_PURE"]
        kept.update({f"SOCKET_{number}": str(copy) for number, copy in enumerate(copies)}, **environment)
        command = ["show:app", "--app-dir", str(tmp_path), "--lifespan", "off", *options]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", textwrap.dedent(LAUNCHER), str(len(sockets)), names, *command),
            pass_fds=copies,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in (*high, *copies):
            os.close(number)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await within(process.communicate())


@pytest.mark.parametrize("options", [(), ("--bind", "systemd"), ("--loop", "asyncio")])
async def test_socket_activation(launch, tmp_path, options):
    path = str(tmp_path / "inherited")
    with inherited(tmp_path, True) as sockets:
        process = await launch(sockets, *options, names="web::local")
        for sock in sockets:
            client = await Client.connect(sock.getsockname(), family=sock.family)
            await client.raw(GET)
            body = (await client.response()).body.decode()
            if sock.family == socket.AF_UNIX:
                assert body == f"None {(path, None)}"
            else:
                assert body == f"{client.address} {sock.getsockname()[:2]}"
            await client.aclose()
        process.send_signal(signal.SIGTERM)
        out, err = await within(process.communicate())
        assert process.returncode == 0, err
        assert out.decode().count('"GET / HTTP/1.1" 200') == len(sockets)
        assert (tmp_path / "inherited").exists()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"LISTEN_PID": "1"}, "--bind systemd: systemd passes no sockets to this process"),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "x"}, "--bind systemd: systemd passes no sockets to this process"),
    ],
)
async def test_sockets_for_another_process(launch, environment, says):
    process = await launch([], "--bind", "systemd", **environment)
    _, err = await within(process.communicate())
    assert process.returncode == 1
    assert err.decode().startswith(f"flowserve: error: {says}")
    assert len(err.splitlines()) == 1


async def test_what_systemd_passes_is_named_when_it_is_wrong(launch):
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        process = await launch([datagrams], names="news.socket")
        _, err = await within(process.communicate())
    assert err.decode().splitlines() == [
        "flowserve: error: systemd: descriptor 3 (news.socket) is a socket, but not a stream socket of TCP or UNIX"
    ]


def test_a_number_of_sockets_that_is_none(monkeypatch):
    for wrong in ("0", "-1", "many", "", "9" * 9):
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", wrong)
        assert refusal(bind="systemd") == f"systemd: LISTEN_FDS={wrong!r} is not a number of sockets"


def test_sockets_are_not_taken_where_an_address_is_named(listeners, monkeypatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert listeners("127.0.0.1:0").slot(0)[0].getsockname()[0] == "127.0.0.1"
    assert os.environ["LISTEN_FDS"] == "1"


async def test_small_messages_are_not_held_back(serve, open_ws):
    """Nagle's algorithm is off on accepted connections, whatever the event loop (RFC 9293 section 3.7.4)."""
    server = await serve(echo)
    await open_ws(server)
    (session,) = [each for each in server.server._context.live if hasattr(each, "stream")]
    sock = session.stream.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Watched(socket.socket):
    """Notes whether it blocks when it has been duplicated."""

    blocks: list[bool]

    def dup(self):
        duplicate = super().dup()
        self.blocks.append(os.get_blocking(self.fileno()))
        return duplicate


async def test_a_socket_that_others_accept_on_never_blocks(serve, connect):
    """Not even while a worker starts to accept: another one would hang in accept()."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        Watched.blocks = []
        with Watched(fileno=os.dup(sock.fileno())) as watched:
            server = await serve(hello, sockets=[watched])
            assert (await (await connect(server)).get()).status == 200
        assert Watched.blocks
        assert not any(Watched.blocks)
