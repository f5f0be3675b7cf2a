"""What --print-config warns of, and the flowserve.toml for the internet in flowserve/server/README.md: it is one, is
served with, and leaves nothing open. And what SECURITY.md says of the limits."""

from __future__ import annotations

import re
import ssl

import pytest
import trustme
from support.documents import ROOT, blocks, section
from support.helpers import PATIENCE, Client, echo, within

from flowserve import Config, connect
from flowserve.config.config import OPTIONS
from flowserve.config.exposure import exposure_warnings
from flowserve.config.file import Given, find_file

SAFE = {
    "host": "192.0.2.1",
    "ssl_certfile": "c.pem",
    "ws_allowed_origins": ["https://a"],
    "allowed_hosts": ["a"],
    "limit_concurrency": 9,
    "limit_connections_per_address": 9,
}


@pytest.fixture(autouse=True)
def user(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000, raising=False)


def warned(**options):
    """The options that the warnings begin with."""
    lines = exposure_warnings(Config("a:b", **options), {})
    assert all(line.isprintable() for line in lines)
    return [line.partition(":")[0] for line in lines]


@pytest.mark.parametrize(
    "options",
    [{}, {"host": "::1"}, {"host": "localhost"}, {"fd": 3}, {"bind": ["127.0.0.1:1", "unix:a,mode=660"]}, SAFE],
)
def test_nothing_is_open(options):
    assert warned(**options) == []


@pytest.mark.parametrize("public", [{"host": "0.0.0.0"}, {"host": "::"}, {"host": "a.example"}, {"bind": [":80"]}])
def test_defaults_on_an_address_that_others_reach(public):
    assert warned(**public) == [
        *("--ssl-certfile", "--ws-allowed-origins", "--allowed-hosts"),
        *("--limit-concurrency", "--limit-connections-per-address"),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"forwarded_allow_ips": "*", "limit_connections_per_address": None}, "--forwarded-allow-ips"),
        ({"timeout_body": "off"}, "--timeout-body"),
        ({"timeout_response": "off"}, "--timeout-response"),
        ({"ws_ping_interval": "off"}, "--ws-ping-interval"),
        ({"ws_ping_timeout": "off"}, "--ws-ping-interval"),
        ({"metrics": "0.0.0.0:9000"}, "--metrics"),
        ({"log_query": "full"}, "--log-query"),
        ({"reload": True}, "--reload"),
        ({"host": "127.0.0.1", "uds": "a.sock"}, "--uds"),
        ({"metrics": "unix:m"}, "--metrics"),
        ({"bind": ["unix:a"]}, "--bind"),
    ],
)
def test_one_thing_is_open(options, expected):
    assert warned(**{**SAFE, **options}) == [expected]


@pytest.mark.parametrize(
    "options",
    [
        {"ws_ping_interval": "off", "ws_idle_timeout": "1m"},
        {"ssl_certfile": None, "forwarded_allow_ips": "10.0.0.1"},
        {"forwarded_allow_ips": "*", "proxy_headers": False, "limit_connections_per_address": 5},
        {"metrics": "127.0.0.1:9000"},
    ],
)
def test_what_closes_it(options):
    assert warned(**{**SAFE, **options}) == []


def test_root(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0, raising=False)
    assert warned() == ["it runs as root"]


@pytest.mark.parametrize(("origin", "warns"), [("command line", True), ("environment X", False), ("c.toml", False)])
def test_a_password_that_others_see(origin, warns):
    config = Config("a:b", ssl_certfile="c.pem", ssl_keyfile_password="hunter2")
    lines = exposure_warnings(config, {"ssl_keyfile_password": Given("hunter2", origin)})
    assert ["--ssl-keyfile-password" in line for line in lines] == [True] * warns
    assert "hunter2" not in "".join(lines)


# The file for the internet


def hardened(tmp_path, monkeypatch) -> Config:
    (text,) = blocks(section("flowserve/server/README.md", "A server on the internet"), "toml")
    (tmp_path / "flowserve.toml").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    file = find_file()
    assert file is not None
    values = {name: OPTIONS[name].convert(each.value, each.where) for name, each in file.given().items()}
    return Config(file.values["app"], **values)


def test_the_file_for_the_internet_leaves_nothing_open(tmp_path, monkeypatch):
    assert exposure_warnings(hardened(tmp_path, monkeypatch), {}) == []


async def test_the_file_for_the_internet_serves(tmp_path, monkeypatch, serve):
    config = hardened(tmp_path, monkeypatch)
    authority = trustme.CA()
    issued = authority.issue_cert("example.com")
    issued.private_key_pem.write_to_path("privkey.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path("fullchain.pem", append=True)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    options = {name: getattr(config, name) for name in OPTIONS} | {"bind": ["127.0.0.1:0"]}
    del options["host"], options["port"]
    server = await serve(echo, **options)
    client = await Client.connect(server.address, ssl=trusting, server_hostname="example.com")
    await client.raw(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert (await client.response()).status == 200
    await client.raw(b"GET / HTTP/1.1\r\nHost: elsewhere\r\n\r\n")
    assert (await client.response()).status == 400
    await client.aclose()
    there = {"host": server.host, "port": server.port, "ssl": trusting, "proxy": None, "open_timeout": PATIENCE}
    async with connect("wss://example.com/", origin="https://example.com", **there) as ws:
        await ws.send("x" * 256 * 1024)
        assert await within(ws.receive()) == "x" * 256 * 1024
    with pytest.raises(Exception, match="403"):
        await connect("wss://example.com/", origin="https://elsewhere.example", **there)


# SECURITY.md


def test_security_tells_the_limits_as_they_are():
    text = (ROOT / ".github" / "SECURITY.md").read_text("utf-8")
    rows = re.findall(r"^\|[^|]*\| `--([a-z0-9-]+)` \| `([^`|]*)` \|", text, re.MULTILINE)
    assert len(rows) >= 20
    defaults = {option.word: option.kind.show(option.default) for option in OPTIONS.values()}
    assert rows == [(word, defaults[word]) for word, _ in rows]
    named = set(re.findall(r"`--(?:no-)?([a-z0-9-]+)", text))
    assert named <= {*defaults, "print-config"}
