"""URLs of NATS."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.nats_credentials import Authority

from flowserve.errors import ConfigError
from flowserve.topics.nats.url import parse_url


def test_the_least() -> None:
    url = parse_url("nats://host")
    assert url.addresses == (("host", 4222),)
    assert (url.user, url.password, url.token, url.ssl, url.prefix, url.storage) == (
        *(None, None, None, None),
        *("flowserve", "file"),
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nats://me:p%40ss@one", ("me", "p@ss", None)),
        ("nats://s3cret@one", (None, None, "s3cret")),
        ("nats://me:x@one:1,two,me:x@[::1]:3", ("me", "x", None)),
    ],
)
def test_who_one_is(text: str, found: tuple[str | None, ...]) -> None:
    url = parse_url(text)
    assert (url.user, url.password, url.token) == found
    assert "x@" not in url.shown
    assert "s3cret" not in url.shown


def test_several_servers() -> None:
    url = parse_url("nats://me:x@one:1,two,me:x@[::1]:3?replicas=3&storage=memory&prefix=chat")
    assert url.addresses == (("one", 1), ("two", 4222), ("::1", 3))
    assert (url.replicas, url.storage, url.prefix) == (3, "memory", "chat")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nats:host", "begins with one of nats://, tls://"),
        ("nats://", "'' is not HOST:PORT"),
        ("nats://host:x", "'host:x' is not HOST:PORT"),
        ("nats://one,", "'' is not HOST:PORT"),
        ("nats://host/stream", "/stream is too much; another stream is \\?prefix=NAME"),
        ("nats://host#x", "write # as %23"),
        ("nats://a:b@one,c:d@two", "several users"),
        ("nats://a:b@c@one", "write @ in a name or password as %40"),
        ("nats://host?prefix=a.b", "the prefix is letters, digits, - and _"),
        ("nats://host?storage=tape", "storage is file or memory"),
        ("nats://host?replicas=9", "replicas is a number from 1 to 5"),
        ("nats://host?socket_timeout=0", "socket_timeout is a number of seconds from 0.05 to 3600"),
        ("nats://host?name=x", "there is no parameter 'name'; there are prefix"),
        ("nats://host?prefix=", "prefix has no value"),
        ("nats://host?ssl_ca_certs=/x", "ssl_ca_certs is for TLS: tls://"),
        ("tls://host?ssl_ca_certs=/nowhere", "ssl_ca_certs: there is no /nowhere"),
        ("tls://host?ssl_certfile=/dev/null", "TLS: "),
        ("nats://[host", "Invalid IPv6 URL"),
    ],
)
def test_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        parse_url(text)
    assert "a:b" not in str(refused.value)


def test_a_file_of_credentials_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "me.creds"
    Authority().write_credentials(path)
    good = path.read_text()
    assert parse_url(f"nats://host?credentials={path}").credentials == str(path)
    none = "has no JWT and seed of a user, as nsc writes them"
    seed = good.split()[-5]
    for wrong, why in (
        ("", none),
        ("nothing of the kind", none),
        (good[: good.index("-----BEGIN USER")], none),
        (good.replace(seed, "x"), none),
        (good.replace(seed, "SUAAAA"), "can't be used: nkeys: invalid seed"),
    ):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=why) as refused:
            parse_url(f"nats://host?credentials={path}")
        assert seed not in str(refused.value)
