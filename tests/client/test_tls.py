"""The TLS contexts that clients share, and when another one is made."""

from __future__ import annotations

import os
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.helpers import within
from support.scripted import Certificates, Scripted, nothing_left, talk

from flowserve.client.connect import connect
from flowserve.client.tls import _MAX_CONTEXTS, _make, client_context, make_context


@pytest.fixture(autouse=True)
def none_yet():
    _make.cache_clear()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A file with a certificate authority."""
    return write(Certificates(), tmp_path / "authority.pem")


def write(certificates: Certificates, path: Path) -> Path:
    certificates.authority.cert_pem.write_to_path(str(path))
    return path


def test_one_for_all_that_ask_for_the_same(authority, monkeypatch):
    context = client_context(str(authority))
    assert client_context(str(authority)) is context
    monkeypatch.chdir(authority.parent)
    assert client_context(authority.name) is context
    assert client_context(None) is client_context(None) is not context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
    assert make_context(str(authority)) is not context


def test_a_file_that_changes(authority):
    before = client_context(str(authority))
    os.utime(authority, ns=(1, 1))
    touched = client_context(str(authority))
    assert touched is not before
    renewed = write(Certificates(), authority.with_name("renewed.pem"))
    os.utime(renewed, ns=(1, 1))
    renewed.replace(authority)
    assert client_context(str(authority)).get_ca_certs() != touched.get_ca_certs()
    authority.unlink()
    with pytest.raises(FileNotFoundError):
        client_context(str(authority))


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
def test_the_environment(name, authority, monkeypatch, tmp_path):
    before = client_context(None)
    value = {"SSL_CERT_FILE": authority, "SSL_CERT_DIR": tmp_path, "SSLKEYLOGFILE": tmp_path / "keys"}[name]
    monkeypatch.setenv(name, str(value))
    context = client_context(None)
    assert context is not before
    assert client_context(None) is context
    if name == "SSLKEYLOGFILE":
        assert context.keylog_filename == str(value)
        return
    if name == "SSL_CERT_FILE":
        assert len(context.get_ca_certs()) == 1
        write(Certificates(), authority)
    else:
        write(Certificates(), tmp_path / "another.pem")
    assert client_context(None) is not context


def test_not_without_bounds(tmp_path):
    certificates = Certificates()
    for number in range(_MAX_CONTEXTS + 3):
        client_context(str(write(certificates, tmp_path / f"{number}.pem")))
    assert _make.cache_info().currsize == _MAX_CONTEXTS


def test_from_many_threads(authority):
    with ThreadPoolExecutor(8) as threads:
        contexts = list(threads.map(client_context, [str(authority)] * 64))
    assert all(each.check_hostname for each in contexts)
    assert client_context(str(authority)) is client_context(str(authority))


@pytest.mark.both_loops
async def test_connections_with_one_of_them(tmp_path):
    """Also of a `connect()` that was called before the authority changed."""
    old, new = Certificates(), Certificates()
    path = write(old, tmp_path / "authority.pem")
    async with nothing_left(), Scripted(talk, ssl=old.server()) as server:
        connecting = connect(server.url(), ca_file=path)
        async with connecting as one, connect(server.url(), ca_file=path) as two:
            contexts = {ws.transport.get_extra_info("sslcontext") for ws in (one, two)}
            assert contexts == {client_context(str(path))}
    async with nothing_left(), Scripted(talk, ssl=new.server()) as server:
        write(new, path)
        async with connect(server.url(), ca_file=path) as ws:
            assert await within(ws.receive()) == "hello"
        own = new.client()
        async with connect(server.url(), ssl=own) as ws:
            assert ws.transport.get_extra_info("sslcontext") is own
