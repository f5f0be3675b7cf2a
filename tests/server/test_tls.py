"""https and wss, with certificates made on the spot."""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from helpers import BINARY, PING, PONG, TEXT, UPGRADE, Frame, Pump, echo, frame, hello, within

from flowserve.errors import FlowserveError

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


@pytest.mark.parametrize("requirement", ["required", "optional"])
async def test_client_certificates(secure, connect, files, requirement):
    server = await secure(hello, ssl_ca_certs=files.authority_file, ssl_cert_reqs=requirement)
    identity = files.authority.issue_cert("client@example.org")
    assert (await (await secure_client(connect, server, files, identity)).get()).body == b"hello"


async def test_without_a_client_certificate(secure, connect, files):
    server = await secure(hello, ssl_ca_certs=files.authority_file, ssl_cert_reqs="required")
    with pytest.raises(REFUSED):
        await connect_and_ask(connect, server, files)


async def test_optional_client_certificate_left_out(secure, connect, files):
    server = await secure(hello, ssl_ca_certs=files.authority_file, ssl_cert_reqs="optional")
    assert (await (await secure_client(connect, server, files)).get()).body == b"hello"


async def test_a_client_certificate_of_another_authority(secure, connect, files):
    server = await secure(hello, ssl_ca_certs=files.authority_file, ssl_cert_reqs="required")
    with pytest.raises(REFUSED):
        await connect_and_ask(connect, server, files, trustme.CA().issue_cert("mallory@example.org"))


async def test_ciphers(secure, connect, files):
    server = await secure(hello, ssl_ciphers="ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384")
    context = trusting(files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = await connect(server, ssl=context, server_hostname="localhost")
    assert client.writer.get_extra_info("cipher")[0].endswith("AES256-GCM-SHA384")
    assert (await client.get()).body == b"hello"


async def test_no_protocol_is_agreed_that_is_not_spoken(secure, connect, files):
    server = await secure(hello)
    context = trusting(files)
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await connect(server, ssl=context, server_hostname="localhost")
    agreed = client.writer.get_extra_info("ssl_object").selected_alpn_protocol()
    assert agreed in (None, "http/1.1")
    assert (await client.get()).body == b"hello"


@pytest.mark.parametrize("data", [b"", GET, b"\x16\x03\x01\x02", b"\x16\x03\x01\x00\x05nonsense" * 20])
async def test_plain_and_silent_clients_harm_nobody(secure, connect, files, data):
    """They get nothing that hurts, nobody waits for them, and no error is logged for them."""
    server = await secure(hello)
    plain = await connect(server)
    await plain.raw(data)
    for _ in range(3):
        assert (await (await secure_client(connect, server, files)).get()).body == b"hello"


async def test_client_that_does_not_trust_us(secure, connect, files):
    server = await secure(hello)
    with pytest.raises(ssl.SSLError):
        await connect(server, ssl=ssl.create_default_context(), server_hostname="localhost")
    assert (await (await secure_client(connect, server, files)).get()).body == b"hello"


@pytest.mark.parametrize(
    "wrong",
    [
        {"ssl_certfile": "/nowhere/cert.pem"},
        {"ssl_keyfile": "/nowhere/key.pem"},
        {"ssl_keyfile": "other"},
        {"ssl_keyfile": "locked", "ssl_keyfile_password": "wrong"},
        {"ssl_certfile": "key"},
        {"ssl_ca_certs": "/nowhere/ca.pem"},
        {"ssl_ciphers": "NO-SUCH-CIPHER"},
    ],
)
async def test_wrong_files_are_told(secure, serve, files, wrong):
    named = {"other": files.other_key, "locked": files.locked, "key": files.key}
    options = {"ssl_certfile": files.certificate, "ssl_keyfile": files.key}
    options.update({name: named.get(value, value) for name, value in wrong.items()})
    with pytest.raises(FlowserveError) as caught:
        await serve(echo, **options)
    assert "\n" not in str(caught.value)
