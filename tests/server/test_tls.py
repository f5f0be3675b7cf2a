"""https and wss, with certificates made on the spot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
import re
import signal
import socket
import ssl
import sys
from types import SimpleNamespace

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from support.helpers import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Client,
    Frame,
    Pump,
    close_payload,
    echo,
    frame,
    hello,
    until,
    within,
)

from flowserve.errors import ConfigError, FlowserveError
from flowserve.server import h1_response_stream, tls

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates in files, and the client's context that trusts them."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")

    def write(name: str, *blobs: trustme.Blob) -> str:
        for number, blob in enumerate(blobs):
            blob.write_to_path(directory / name, append=number > 0)
        return str(directory / name)

    password = "open sesame"
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    (directory / "locked.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
    )
    return SimpleNamespace(
        authority=authority,
        certificate=write("cert.pem", *certificate.cert_chain_pems),
        key=write("key.pem", certificate.private_key_pem),
        both=write("both.pem", certificate.private_key_pem, *certificate.cert_chain_pems),
        locked=str(directory / "locked.pem"),
        password=password,
        authority_file=write("ca.pem", authority.cert_pem),
        other_key=write("other.pem", trustme.CA().issue_cert("localhost").private_key_pem),
    )


def trusting(files, identity: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """A client's context that trusts the files' authority, and shows `identity`."""
    context = ssl.create_default_context()
    files.authority.configure_trust(context)
    if identity is not None:
        identity.configure_cert(context)
    return context


@pytest.fixture
async def secure(serve, files):
    """`server = await secure(app, **options)`"""

    async def start(app, **options):
        return await serve(app, ssl_certfile=files.certificate, ssl_keyfile=files.key, **options)

    return start


async def secure_client(connect, server, files, identity=None, **options):
    return await connect(server, ssl=trusting(files, identity), server_hostname="localhost", **options)


@pytest.mark.both_loops
async def test_https(secure, stage, connect, files):
    client = await secure_client(connect, await secure(stage), files)
    for number in (b"1", b"2"):
        await client.raw(GET)
        act = await stage.next()
        assert act.scope["scheme"] == "https"
        assert tuple(act.scope["client"]) == client.address
        await act.answer(number)
        assert (await client.response()).body == number


@pytest.mark.both_loops
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_many_tasks_that_send_to_a_client_that_left_are_not_told_of(serve, files, connect, logs, tls, how):
    """Event loops put a warning into the log for each write to a connection that has broken in the same turn."""
    left, ended = asyncio.Event(), asyncio.Event()

    async def send_on(send):
        await left.wait()
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0)

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await asyncio.gather(*(send_on(send) for _ in range(50)))
        finally:
            ended.set()

    options = {"ssl_certfile": files.certificate, "ssl_keyfile": files.key} if tls else {}
    server = await serve(app, **options)
    for _ in range(5):
        client = await (secure_client(connect, server, files) if tls else connect(server))
        await client.upgrade()
        getattr(client, how)()
        left.set()
        await within(ended.wait())
        left.clear()
        ended.clear()
    assert logs.lines("asyncio") == []


@pytest.mark.both_loops
async def test_a_client_that_does_not_end_tls_behind_its_close(secure, files, logs):
    """It keeps nothing open for longer than the close timeout."""
    server = await secure(echo, ws_close_timeout=0.2)
    host, port = server.server.sockets[0].getsockname()[:2]

    def talk() -> socket.socket:
        sock = trusting(files).wrap_socket(socket.create_connection((host, port)), server_hostname="localhost")
        sock.sendall(UPGRADE)
        while not sock.recv(4096).endswith(b"\r\n\r\n"):
            pass
        sock.sendall(frame(CLOSE, close_payload(1000)))
        assert sock.recv(4) == b"\x88\x02\x03\xe8"
        return sock

    with await within(asyncio.to_thread(talk)):
        await until(lambda: not server.server._context.live)
    assert not logs.errors


@pytest.mark.both_loops
async def test_wss(secure, stage, connect, files):
    client = await secure_client(connect, await secure(stage), files)
    await client.raw(UPGRADE + frame(TEXT, b"hello"))
    act = await stage.next()
    assert act.scope["scheme"] == "wss"
    await act.accept()
    assert (await client.head()).status == 101
    assert await act.receive() == {"type": "websocket.receive", "text": "hello"}
    await act.send_text("hello yourself")
    assert await client.message() == "hello yourself"
    await client.send_frame(PING, b"p")
    assert await client.frame() == Frame(PONG, b"p")
    await client.send_close(4001, "bye")
    assert await act.receive() == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
    assert (await client.close_frame())[0] == 4001
    await client.closed()


@pytest.mark.both_loops
async def test_wss_slow_client_stops_the_sending(secure, stage, connect, files):
    client = await secure_client(connect, await secure(stage), files, receive_buffer=65536)
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    await client.head()
    chunk, chunks = b"x" * 65536, 512

    async def stream():
        for number in range(chunks):
            await act.raw_send({"type": "websocket.send", "bytes": chunk})
            yield number

    pump = Pump(stream())
    assert await pump.stall() < chunks // 2
    for _ in range(chunks):
        assert len(await client.message()) == len(chunk)
    await pump.finish()


@pytest.mark.both_loops
async def test_wss_slow_app_stops_the_reading(secure, stage, connect, files):
    client = await secure_client(connect, await secure(stage), files)
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    await client.head()
    chunk, chunks = b"x" * 65536, 512
    pump = Pump(client.pump(frame(BINARY, chunk, mask=b"\0\0\0\0"), chunks))
    assert await pump.stall() < chunks // 2
    for _ in range(chunks):
        assert len((await act.receive())["bytes"]) == len(chunk)
    await pump.finish()


@pytest.mark.both_loops
async def test_abrupt_end(secure, stage, connect, files):
    client = await secure_client(connect, await secure(stage), files)
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    await client.head()
    client.leave()
    assert (await act.receive())["code"] == 1006
    with pytest.raises(OSError):
        await act.send_text("too late")


@pytest.mark.both_loops
async def test_shutdown(secure, stage, connect, files):
    server = await secure(stage)
    client = await secure_client(connect, server, files)
    await client.raw(UPGRADE)
    act = await stage.next()
    await act.accept()
    await client.head()
    task = asyncio.ensure_future(server.server.shutdown())
    assert (await client.close_frame())[0] == 1012
    assert (await act.disconnected())["code"] == 1012
    act.leave()
    await client.send_close(1012)
    await client.closed()
    await within(task)


async def test_key_and_certificate_in_one_file(serve, connect, files):
    server = await serve(hello, ssl_certfile=files.both)
    assert (await (await secure_client(connect, server, files)).get()).body == b"hello"


async def test_locked_key(serve, connect, files):
    server = await serve(
        hello, ssl_certfile=files.certificate, ssl_keyfile=files.locked, ssl_keyfile_password=files.password
    )
    assert (await (await secure_client(connect, server, files)).get()).body == b"hello"


REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


async def connect_and_ask(connect, server, files, identity=None):
    """With TLS 1.3 the handshake is over for the client before the server has judged its certificate."""
    return await (await secure_client(connect, server, files, identity)).get()


async def connect_and_listen(connect, server, files, identity=None):
    client = await secure_client(connect, server, files, identity)
    if not await within(client.reader.read()):
        raise ConnectionResetError


def refused_with(alert: str):
    """The client learns why; but the asyncio of Python 3.10 closes the connection before it has sent the alert."""
    if sys.version_info < (3, 11) and isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        return pytest.raises(REFUSED)
    return pytest.raises(ssl.SSLError, match=f"ALERT_{alert}")


def presented(client) -> bytes:
    """The certificate that the server showed a client, DER."""
    return client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)


def der(blob: trustme.Blob) -> bytes:
    return ssl.PEM_cert_to_DER_cert(blob.bytes().decode())


@pytest.mark.both_loops
@pytest.mark.parametrize("requirement", ["required", "optional"])
@pytest.mark.parametrize("request_bytes", [GET, UPGRADE], ids=["http", "websocket"])
async def test_client_certificates(secure, stage, connect, files, requirement, request_bytes):
    server = await secure(stage, ssl_ca_certs=files.authority_file, ssl_cert_reqs=requirement)
    intermediate = files.authority.create_child_ca()
    identity = intermediate.issue_cert("client@example.org", common_name="Ada, the first", organization_name="Example")
    client = await secure_client(connect, server, files, identity)
    await client.raw(request_bytes)
    act = await stage.next()
    found = act.scope["extensions"]["tls"]
    assert found["client_cert_error"] is None
    chain = [ssl.PEM_cert_to_DER_cert(each) for each in found["client_cert_chain"]]
    assert chain == [der(blob) for blob in identity.cert_chain_pems]
    assert len(chain) == 2
    name = x509.load_der_x509_certificate(chain[0]).subject.rfc4514_string()
    assert found["client_cert_name"] == name
    assert name.startswith("CN=Ada\\, the first,")
    assert ssl.PEM_cert_to_DER_cert(found["server_cert"]) == presented(client)
    assert set(found) == {
        *("server_cert", "client_cert_chain", "client_cert_name", "client_cert_error", "tls_version", "cipher_suite"),
    }
    if request_bytes is GET:
        await act.answer()
    else:
        await act.accept()


async def tell(scope, receive, send):
    """The chain's length, and the client's name."""
    found = scope["extensions"]["tls"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    body = f"{len(found['client_cert_chain'])} {found['client_cert_name']}"
    await send({"type": "http.response.body", "body": body.encode()})


@pytest.mark.both_loops
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_certificate_of_a_resumed_session(secure, files, version):
    """The client does not send it again, but the session knows it."""
    server = await secure(tell, ssl_ca_certs=files.authority_file, ssl_cert_reqs="required")
    intermediate = files.authority.create_child_ca()
    context = trusting(files, intermediate.issue_cert("client@example.org", common_name="ada"))
    context.maximum_version = version

    def ask(session=None):
        sock = socket.create_connection(server.address, timeout=10)
        with context.wrap_socket(sock, server_hostname="localhost", session=session) as client:
            client.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            answer = b"".join(iter(lambda: client.recv(4096), b""))
            return bool(client.session_reused), answer.decode(), client.session

    reused, answer, session = await within(asyncio.to_thread(ask))
    assert not reused
    assert "2 CN=ada," in answer
    reused, answer, _ = await within(asyncio.to_thread(ask, session))
    assert reused
    assert "1 CN=ada," in answer


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("version", "ciphers", "expected"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", (0x0303, 0xC02B)),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", (0x0303, 0xCCA9)),
        (ssl.TLSVersion.TLSv1_3, None, (0x0304, None)),
    ],
)
async def test_version_and_cipher_in_the_scope(secure, stage, connect, files, version, ciphers, expected):
    server = await secure(stage)
    context = trusting(files)
    context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(ciphers)
    client = await connect(server, ssl=context, server_hostname="localhost")
    await client.raw(GET)
    act = await stage.next()
    await act.answer()
    found = act.scope["extensions"]["tls"]
    suites = {
        "TLS_AES_128_GCM_SHA256": 0x1301,
        "TLS_AES_256_GCM_SHA384": 0x1302,
        "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    }
    agreed = client.writer.get_extra_info("cipher")[0]
    assert (found["tls_version"], found["cipher_suite"]) == (expected[0], expected[1] or suites[agreed])
    assert (found["client_cert_chain"], found["client_cert_name"]) == ([], None)


async def test_requests_of_one_connection_can_write_into_their_scopes(secure, stage, connect, files):
    client = await secure_client(connect, await secure(stage), files)
    for _ in range(2):
        await client.raw(GET)
        act = await stage.next()
        assert act.scope["extensions"]["tls"].pop("tls_version") == 0x0304
        await act.answer()
        await client.response()


async def test_no_tls_extension_without_tls(serve, stage, connect):
    client = await connect(await serve(stage))
    for data in (GET, UPGRADE):
        await client.raw(data)
        act = await stage.next()
        assert "tls" not in act.scope.get("extensions", {})
        if data is GET:
            await act.answer()
            await client.response()
        else:
            await act.accept()


@pytest.mark.both_loops
async def test_without_a_client_certificate(secure, connect, files):
    server = await secure(hello, ssl_ca_certs=files.authority_file, ssl_cert_reqs="required")
    with refused_with("CERTIFICATE_REQUIRED"):
        await connect_and_listen(connect, server, files)
    with pytest.raises(REFUSED):
        await connect_and_ask(connect, server, files)


async def test_optional_client_certificate_left_out(secure, connect, files):
    server = await secure(hello, ssl_ca_certs=files.authority_file, ssl_cert_reqs="optional")
    assert (await (await secure_client(connect, server, files)).get()).body == b"hello"


@pytest.mark.both_loops
@pytest.mark.parametrize("requirement", ["required", "optional"])
async def test_a_client_certificate_of_another_authority(secure, connect, files, requirement):
    server = await secure(hello, ssl_ca_certs=files.authority_file, ssl_cert_reqs=requirement)
    mallory = trustme.CA().issue_cert("mallory@example.org")
    with refused_with("UNKNOWN_CA"):
        await connect_and_listen(connect, server, files, mallory)
    with pytest.raises(REFUSED):
        await connect_and_ask(connect, server, files, mallory)


async def test_ciphers(secure, connect, files):
    server = await secure(hello, ssl_ciphers="ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384")
    context = trusting(files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = await connect(server, ssl=context, server_hostname="localhost")
    assert client.writer.get_extra_info("cipher")[0].endswith("AES256-GCM-SHA384")
    assert (await client.get()).body == b"hello"


@pytest.mark.both_loops
async def test_oldest_version(secure, connect, files):
    context = trusting(files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = await connect(await secure(hello), ssl=context, server_hostname="localhost")
    assert (await client.get()).body == b"hello"
    strict = await secure(hello, ssl_version_min="TLSv1.3")
    with refused_with("PROTOCOL_VERSION"):
        await connect(strict, ssl=context, server_hostname="localhost")
    assert (await (await secure_client(connect, strict, files)).get()).body == b"hello"


async def test_no_protocol_is_agreed_that_is_not_spoken(secure, connect, files):
    server = await secure(hello)
    context = trusting(files)
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await connect(server, ssl=context, server_hostname="localhost")
    agreed = client.writer.get_extra_info("ssl_object").selected_alpn_protocol()
    assert agreed in (None, "http/1.1")
    assert (await client.get()).body == b"hello"


def hello_message() -> bytes:
    """The first bytes of a client's handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


HANDSHAKE = hello_message()


STRANGE = [
    *(b"", HANDSHAKE, HANDSHAKE[:100], HANDSHAKE[:1], b"\x16\x03\x01\x02", b"\x16\x03\x01\x00\x05nonsense" * 20),
    *(b"SSH-2.0-scan\r\n", b"\r\n\r\n", b"\0" * 64, b"DELE", b"\x15\x03\x01\x00\x02\x02\x28"),
]


@pytest.mark.both_loops
@pytest.mark.parametrize("leave", ["stay", "leave", "reset"])
async def test_silent_and_strange_clients_harm_nobody(secure, connect, files, logs, leave):
    """They get nothing that hurts, nobody waits for them, and the log does not speak of them."""
    server = await secure(hello)
    for data in STRANGE:
        stranger = await connect(server)
        await stranger.raw(data)
        if leave != "stay":
            getattr(stranger, leave)()
        assert (await (await secure_client(connect, server, files)).get()).body == b"hello"
    assert [record for record in logs.records if record.levelno >= logging.WARNING or record.exc_info] == []


@pytest.mark.both_loops
async def test_handshake_timeout(secure, connect, files):
    server = await secure(hello, ssl_handshake_timeout=0.2)
    silent, slow = await connect(server), await connect(server)
    await slow.raw(HANDSHAKE[:50])
    await silent.closed()
    await slow.closed()


PLAIN = {
    "GET": GET,
    "HEAD": GET.replace(b"GET", b"HEAD"),
    "POST": b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "DELETE": b"DELETE /thing HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "WebSocket": UPGRADE,
}


@pytest.mark.both_loops
@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN)
async def test_plain_http_is_told_to_speak_tls(secure, stage, connect, files, logs, data):
    server = await secure(stage)
    client = await connect(server)
    await client.raw(data)
    response = await client.response()
    assert response.status == 400
    assert response.header("connection") == "close"
    assert response.header("content-type") == "text/plain; charset=utf-8"
    assert response.body.decode().strip() == "This port speaks TLS; use https:// or wss://"
    await client.closed()
    assert not stage.acts
    await until(lambda: not server.server._context.live)
    assert [record for record in logs.records if record.levelno > logging.INFO] == []
    assert logs.lines("flowserve.access") == []


@pytest.mark.both_loops
async def test_plain_http_that_goes_on_and_on(secure, connect, files):
    """It is not kept, and it does not hold the connection."""
    server = await secure(hello)
    client = await connect(server)
    chunk, sent = b"x" * 65536, 0
    await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n")
    with contextlib.suppress(OSError):
        while sent < 256 << 20:
            await client.raw(chunk)
            sent += len(chunk)
    assert sent < 256 << 20


@pytest.mark.both_loops
async def test_plain_http_after_the_handshake_is_nothing_special(secure, connect, files, logs):
    server = await secure(hello)
    client = await secure_client(connect, server, files)
    assert (await client.get()).body == b"hello"
    os.write(client.sock.fileno(), GET)
    await client.rest()
    assert [record for record in logs.records if record.levelno > logging.INFO] == []


async def test_client_that_does_not_trust_us(secure, connect, files):
    server = await secure(hello)
    with pytest.raises(ssl.SSLError):
        await connect(server, ssl=ssl.create_default_context(), server_hostname="localhost")
    assert (await (await secure_client(connect, server, files)).get()).body == b"hello"


WRONG = [
    (
        {"ssl_certfile": "/nowhere/cert.pem"},
        "ssl_certfile: can't read '/nowhere/cert.pem': No such file or directory",
    ),
    ({"ssl_certfile": "/"}, "ssl_certfile: can't read '/': Is a directory"),
    (
        {"ssl_certfile": "key"},
        "ssl_certfile: '.*key.pem' and '.*key.pem' don't hold a certificate and its key in PEM",
    ),
    ({"ssl_keyfile": "/nowhere/key.pem"}, "ssl_keyfile: can't read '/nowhere/key.pem': No such file or directory"),
    ({"ssl_keyfile": "other"}, "ssl_keyfile: the key does not belong to the certificate in '.*cert.pem'"),
    ({"ssl_keyfile": "certificate"}, "ssl_certfile: .* don't hold a certificate and its key in PEM form"),
    ({"ssl_keyfile": None}, "ssl_certfile: .* don't hold a certificate and its key in PEM form"),
    ({"ssl_keyfile": "locked"}, "ssl_keyfile_password: the key in '.*locked.pem' is encrypted; give its password"),
    (
        {"ssl_keyfile": "locked", "ssl_keyfile_password": "wrong"},
        "ssl_keyfile_password: it does not open the key in '.*locked.pem'",
    ),
    (
        {"ssl_keyfile": "locked", "ssl_keyfile_password": "x" * 5000},
        "ssl_keyfile_password: it does not open the key in '.*locked.pem'",
    ),
    ({"ssl_ca_certs": "/nowhere/ca.pem"}, "ssl_ca_certs: can't read '/nowhere/ca.pem': No such file or directory"),
    ({"ssl_ca_certs": "key"}, "ssl_ca_certs: '.*key.pem' has no certificate in PEM form"),
    ({"ssl_ciphers": "NO-SUCH-CIPHER"}, "ssl_ciphers: OpenSSL knows no cipher in 'NO-SUCH-CIPHER'"),
]


@pytest.mark.parametrize(("wrong", "says"), WRONG)
async def test_wrong_files_are_told(serve, files, wrong, says):
    named = {"other": files.other_key, "locked": files.locked, "key": files.key, "certificate": files.certificate}
    options = {"ssl_certfile": files.certificate, "ssl_keyfile": files.key}
    options.update({name: named.get(value, value) for name, value in wrong.items()})
    with pytest.raises(FlowserveError) as caught:
        await serve(echo, **options)
    assert re.match(says, str(caught.value))
    assert "\n" not in str(caught.value)


async def test_wrong_files_on_the_command_line(command, files):
    running = await command("support.helpers:hello", "--ssl-certfile", files.certificate, "--ssl-keyfile", files.locked)
    status, _, errors = await running.wait()
    assert status == 1
    assert errors.startswith("flowserve: error: --ssl-keyfile-password: ")
    assert len(errors.splitlines()) == 1


# Certificates loaded anew


class Renewable:
    """Certificate and key in files, as a client of a certificate authority would keep them."""

    def __init__(self, authority: trustme.CA, directory: pathlib.Path) -> None:
        self.authority = authority
        self.certificate, self.key = directory / "live.pem", directory / "live.key"
        self.current = b""
        self.renew(trustme.KeyType.RSA)

    @property
    def options(self):
        return {"ssl_certfile": self.certificate, "ssl_keyfile": self.key}

    def renew(self, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> None:
        """Another certificate, and another kind of key."""
        made = self.authority.issue_cert("localhost", "127.0.0.1", key_type=key_type)
        self.put(self.certificate, b"".join(blob.bytes() for blob in made.cert_chain_pems))
        self.put(self.key, made.private_key_pem.bytes())
        self.current = der(made.cert_chain_pems[0])

    def put(self, path: pathlib.Path, content: bytes) -> None:
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)


@pytest.fixture
def renewable(files, tmp_path):
    return Renewable(files.authority, tmp_path)


async def secure_echo(connect, server, files):
    client = await secure_client(connect, server, files)
    await client.upgrade()
    await client.send_text("before")
    assert await client.message() == "before"
    return client


async def goes_on(client) -> None:
    await client.send_text("after")
    assert await client.message() == "after"


@pytest.mark.both_loops
async def test_reload(serve, connect, files, renewable, logs):
    server = await serve(echo, **renewable.options)
    first = renewable.current
    client = await secure_echo(connect, server, files)
    assert presented(client) == first
    renewable.renew()
    server.server.reload_certificates()
    await goes_on(client)
    for _ in range(3):
        assert presented(await secure_client(connect, server, files)) == renewable.current != first
    await goes_on(client)
    assert logs.lines()[-1] == "New connections get the certificate that was loaded now"


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (
            lambda it: it.put(it.certificate, b"nonsense"),
            "ssl_certfile: .* don't hold a certificate and its key in PEM",
        ),
        (lambda it: it.put(it.key, b""), "ssl_certfile: .* don't hold a certificate and its key in PEM form"),
        (lambda it: it.key.unlink(), "ssl_keyfile: can't read '.*live.key': No such file or directory"),
    ],
)
async def test_reload_of_broken_files(serve, connect, files, renewable, break_it, says):
    server = await serve(echo, **renewable.options)
    client = await secure_echo(connect, server, files)
    before = renewable.current
    break_it(renewable)
    with pytest.raises(ConfigError, match=says) as caught:
        server.server.reload_certificates()
    assert len(str(caught.value).splitlines()) == 1
    await goes_on(client)
    assert presented(await secure_client(connect, server, files)) == before
    renewable.renew()
    server.server.reload_certificates()
    assert presented(await secure_client(connect, server, files)) == renewable.current


async def test_reload_without_tls(serve, logs):
    (await serve(hello)).server.reload_certificates()
    assert logs.lines()[-1] == "There are no certificates to reload: TLS is off"


async def test_reload_takes_authorities_too(serve, connect, files, renewable, tmp_path):
    authority = tmp_path / "authorities.pem"
    files.authority.cert_pem.write_to_path(authority)
    server = await serve(hello, **renewable.options, ssl_ca_certs=authority, ssl_cert_reqs="required")
    other = trustme.CA()
    identities = files.authority.issue_cert("a@example.org"), other.issue_cert("b@example.org")
    for wanted, unwanted in (identities, identities[::-1]):
        assert (await connect_and_ask(connect, server, files, wanted)).body == b"hello"
        with pytest.raises(REFUSED):
            await connect_and_ask(connect, server, files, unwanted)
        other.cert_pem.write_to_path(authority)
        server.server.reload_certificates()


async def showing(connect, server, files, certificate: bytes) -> None:
    """Wait until new connections see `certificate`."""

    async def look() -> None:
        while presented(client := await secure_client(connect, server, files)) != certificate:
            await client.aclose()

    await within(look())


@pytest.mark.both_loops
async def test_changed_files_are_taken_up(serve, connect, files, renewable, logs, monkeypatch):
    monkeypatch.setattr(tls, "_CHECK_INTERVAL", 0.02)
    server = await serve(echo, **renewable.options, ssl_reload=True)
    client = await secure_echo(connect, server, files)
    for _ in range(2):
        renewable.renew()
        await showing(connect, server, files, renewable.current)
    await goes_on(client)


@pytest.mark.app_fails  # the fixture's word for: an error must be logged
async def test_broken_files_are_told_once(serve, connect, files, renewable, logs, monkeypatch):
    monkeypatch.setattr(tls, "_CHECK_INTERVAL", 0.02)
    server = await serve(echo, **renewable.options, ssl_reload=True)
    client = await secure_echo(connect, server, files)
    before = renewable.current
    renewable.put(renewable.certificate, b"nonsense")
    await until(lambda: bool(logs.errors))
    assert presented(await secure_client(connect, server, files)) == before
    renewable.renew()
    await showing(connect, server, files, renewable.current)
    await goes_on(client)
    (line,) = logs.errors
    assert re.fullmatch(
        r"flowserve: The old certificate stays in use\. --ssl-certfile: '.*live.pem' and '.*live.key' don't hold a"
        r" certificate and its key in PEM form",
        line,
    )


async def test_links_to_other_files_are_changes(serve, connect, files, renewable, tmp_path, monkeypatch):
    """As in a Kubernetes secret, where one link is exchanged for all files."""
    monkeypatch.setattr(tls, "_CHECK_INTERVAL", 0.02)
    current = tmp_path / "current"
    current.symlink_to(tmp_path)
    paths = {name: current / path.name for name, path in renewable.options.items()}
    server = await serve(echo, **paths, ssl_reload=True)
    (tmp_path / "next").mkdir()
    following = Renewable(files.authority, tmp_path / "next")
    (tmp_path / "link").symlink_to(tmp_path / "next")
    (tmp_path / "link").replace(current)
    await showing(connect, server, files, following.current)


@pytest.mark.skipif(os.name != "posix", reason="SIGHUP")
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_sighup(command, files, renewable, loop):
    options = [f"--{name.replace('_', '-')}={path}" for name, path in renewable.options.items()]
    running = await command("support.helpers:echo", "--loop", loop, *options)
    await running.logged("Listening on https://")
    clients = []

    async def connect() -> Client:
        clients.append(await Client.connect(running.address, ssl=trusting(files), server_hostname="localhost"))
        return clients[-1]

    client = await connect()
    await client.upgrade()
    first = renewable.current
    assert presented(client) == first
    renewable.renew()
    running.signal(signal.SIGHUP)
    await running.logged("New connections get the certificate that was loaded now")
    await goes_on(client)
    assert presented(await connect()) == renewable.current != first
    good, renewable.current = renewable.current, b""
    renewable.put(renewable.key, b"nonsense")
    running.signal(signal.SIGHUP)
    assert "The old certificate stays in use. --ssl-certfile: " in await running.logged("ERROR")
    await goes_on(client)
    assert presented(await connect()) == good
    running.signal(signal.SIGTERM)
    assert await client.close_frame() == (1012, "the server is shutting down")
    for each in clients:
        await each.aclose()
    status, _, errors = await running.wait()
    assert (status, "Traceback" in errors) == (0, False)


# The context factory


@pytest.mark.both_loops
async def test_context_factory_changes_what_the_options_describe(serve, stage, connect, files):
    other = files.authority.issue_cert("other.example")
    seen = []

    def factory(config, default):
        assert config.ssl_certfile == files.certificate
        context = default()
        for_other = default()
        other.configure_cert(for_other)

        def choose(connection, name, _context):
            seen.append(name)
            if name == "other.example":
                connection.context = for_other

        context.sni_callback = choose
        return context

    server = await serve(stage, ssl_certfile=files.certificate, ssl_keyfile=files.key, ssl_context_factory=factory)
    for name, blob in (("localhost", None), ("other.example", other.cert_chain_pems[0])):
        client = await connect(server, ssl=trusting(files), server_hostname=name)
        assert (presented(client) == der(other.cert_chain_pems[0])) is (blob is not None)
        await client.raw(GET)
        act = await stage.next()
        assert act.scope["extensions"]["tls"]["tls_version"] == 0x0304
        await act.answer()
    assert seen == ["localhost", "other.example"]


@pytest.mark.both_loops
async def test_context_factory_alone(serve, stage, connect, files):
    """Without certificate files: from a store of secrets, perhaps. The scope can't tell the certificate."""
    made = files.authority.issue_cert("localhost")

    def factory(config, default):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.configure_cert(context)
        return context

    server = await serve(stage, ssl_context_factory=factory)
    client = await secure_client(connect, server, files)
    await client.raw(GET)
    act = await stage.next()
    assert act.scope["scheme"] == "https"
    assert act.scope["extensions"]["tls"]["server_cert"] is None
    await act.answer()
    plain = await connect(server)
    await plain.raw(GET)
    assert (await plain.response()).status == 400
    made = files.authority.issue_cert("localhost")
    server.server.reload_certificates()
    assert presented(await secure_client(connect, server, files)) == der(made.cert_chain_pems[0])


async def test_context_factory_that_fails(serve, connect, files):
    with pytest.raises(ConfigError, match=r"ssl_context_factory must return an ssl\.SSLContext, not NoneType"):
        await serve(hello, ssl_context_factory=lambda config, default: None)

    def factory(config, default):
        if failures:
            raise failures[0]
        context = default()
        context.load_cert_chain(files.certificate, files.key)
        return context

    failures = []
    server = await serve(hello, ssl_context_factory=factory)
    failures.append(RuntimeError("the store is away"))
    with pytest.raises(ConfigError, match=re.escape("ssl_context_factory raised RuntimeError('the store is away')")):
        server.server.reload_certificates()
    assert (await (await secure_client(connect, server, files)).get()).body == b"hello"


@pytest.mark.both_loops
async def test_a_whole_response_that_is_taken_slowly_is_not_cut(secure, connect, files, monkeypatch):
    """Event loops pass all of it on to the transport below TLS at once, and don't tell what that still holds."""
    monkeypatch.setattr(h1_response_stream, "LINGER", 0.2)
    size = 30_000_000

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": bytes(size)})

    server = await secure(app, timeout_response=1.0, timeout_keep_alive=0.1)
    client = await secure_client(connect, server, files, receive_buffer=65536)
    await client.raw(GET)
    assert (await client.head()).status == 200
    taken = 0
    while taken < size:
        taken += len(await within(client.reader.readexactly(min(600_000, size - taken))))
        await asyncio.sleep(0.03)
    await client.closed()


@pytest.mark.both_loops
async def test_a_whole_response_that_is_not_taken_is_cut(secure, connect, files, monkeypatch, logs):
    monkeypatch.setattr(h1_response_stream, "LINGER", 0.2)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(30_000_000)})

    server = await secure(app, timeout_response=0.2, timeout_keep_alive=0.1)
    client = await secure_client(connect, server, files, receive_buffer=65536)
    client.writer.transport.pause_reading()
    await client.raw(GET)
    await until(lambda: server.server._context.refusals == {"slow_response": 1})
    await until(lambda: not server.server._context.live)
