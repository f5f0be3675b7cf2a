"""URLs of Redis: what they say, and what is said of wrong ones."""

from __future__ import annotations

import ssl
import subprocess
import sys

import pytest
import trustme

from flowserve.errors import ConfigError
from flowserve.topics.hub.open import open_hub
from flowserve.topics.redis.url import parse_url
from flowserve.topics.settings import Settings


def test_defaults():
    url = parse_url("redis://")
    assert url.addresses == (("localhost", 6379),)
    assert (url.path, url.service, url.ssl, url.username, url.password, url.db) == (None, None, None, None, None, 0)
    assert (url.prefix, url.client_name, url.timeout, url.health_check_interval) == ("flowserve:", "flowserve", 3, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://host:1/2", {"addresses": (("host", 1),), "db": 2}),
        ("redis://host?db=3&prefix=shop.", {"db": 3, "prefix": "shop."}),
        ("redis://[::1]:7", {"addresses": (("::1", 7),)}),
        ("redis://:p%40ss%3A%2F@host", {"username": None, "password": "p@ss:/"}),
        ("redis://me:secret@host", {"username": "me", "password": "secret"}),
        ("redis://host?username=me&password=secret", {"username": "me", "password": "secret"}),
        ("redis://host?socket_timeout=0.5&health_check_interval=10", {"timeout": 0.5, "health_check_interval": 10}),
        ("redis+unix:///run/redis%20a.sock?db=1", {"path": "/run/redis a.sock", "db": 1, "addresses": ()}),
        ("redis+unix://me:secret@/r.sock", {"path": "/r.sock", "password": "secret"}),
        ("redis+sentinel://a/main", {"addresses": (("a", 26379),), "service": "main", "db": 0}),
        ("redis+sentinel://:pw@a:1,b,c:3/my%20main/4", {"service": "my main", "db": 4, "password": "pw"}),
        ("redis+sentinel://a:1,b:2/m", {"addresses": (("a", 1), ("b", 2))}),
        ("redis://a", {"cluster": False}),
        ("redis+cluster://:pw@a:1,b/0", {"addresses": (("a", 1), ("b", 6379)), "cluster": True, "password": "pw"}),
        ("redis+sentinel://a/m?sentinel_password=x&sentinel_username=y", {"sentinel_password": "x"}),
    ],
)
def test_what_a_url_says(text, expected):
    url = parse_url(text)
    assert {name: getattr(url, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("redis://host:port", "'host:port' is not HOST:PORT"),
        ("redis://host:99999", "'host:99999' is not HOST:PORT"),
        ("redis://host:0", "'host:0' is not HOST:PORT"),
        ("redis://:pw@:6379", "':6379' is not HOST:PORT"),
        ("redis://host/zero", "the database is a number, not 'zero'"),
        ("redis://host?db=-1", "the database is a number, not '-1'"),
        ("redis://host/0/1", "/0/1 is more than the number of a database"),
        ("redis://a,b", "it has several hosts; only redis+sentinel:// and redis+cluster:// take those"),
        ("redis://me@host", "the user 'me' has no password; a password alone is written :PASSWORD@"),
        ("redis://:p@ss@host", "write @ in a name or password as %40"),
        ("redis://:p#ss@host", "write # as %23"),
        ("redis://host?prefx=a", "there is no parameter 'prefx'; there are prefix, db, "),
        ("redis://host?prefix=a{b", "the prefix is text without spaces and braces"),
        ("redis://host?prefix=", "prefix has no value"),
        ("redis://host?client_name=a%20b", "client_name is ASCII without spaces"),
        ("redis://host?socket_timeout=soon", "socket_timeout is a number of seconds from 0.05 to 3600"),
        ("redis://host?health_check_interval=0", "health_check_interval is a number of seconds from 0.05 to 3600"),
        (
            "redis://host?ssl_ca_certs=ca.pem",
            "ssl_ca_certs is for TLS: rediss://, rediss+sentinel:// or rediss+cluster://",
        ),
        ("redis://host?sentinel_password=x", "sentinel_password is for redis+sentinel://"),
        ("rediss://host?ssl_ca_certs=/none/ca.pem", "ssl_ca_certs: there is no /none/ca.pem"),
        ("rediss://host?ssl_ca_certs=/dev/null", "TLS: "),
        ("rediss://host?ssl_cert_reqs=maybe", "TLS: "),
        ("redis+sentinel://a:1", "the service's name is missing: redis+sentinel://HOST:PORT,HOST:PORT/SERVICE"),
        ("redis+unix://run/redis.sock", "write redis+unix:///PATH/OF/SOCKET"),
        ("redis+unix://", "write redis+unix:///PATH/OF/SOCKET"),
        ("redis+clusters://a", "it begins with one of redis://, rediss://, "),
        ("redis+cluster://a/1", "a cluster has no other database than 0"),
        ("redis:host", "it begins with one of redis://, rediss://, "),
    ],
)
def test_what_is_wrong_with_a_url(text, problem):
    with pytest.raises(ConfigError) as found:
        parse_url(text)
    assert str(found.value).startswith("the URL ")
    assert problem in str(found.value)
    assert "p@ss" not in str(found.value)


def test_passwords_are_not_shown():
    assert parse_url("redis://me:secret@host/1").shown == "redis://***@host/1"
    assert "secret" not in parse_url("redis://host?password=secret&db=1").shown
    assert "secret" not in parse_url("redis+sentinel://host/m?sentinel_password=secret").shown


def test_tls(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    strict = parse_url("rediss://host").ssl
    assert strict is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert parse_url("rediss://host?ssl_cert_reqs=none").ssl.verify_mode == ssl.CERT_NONE
    url = parse_url(
        f"rediss+sentinel://a/m?ssl_ca_certs={tmp_path}/ca.pem&ssl_certfile={tmp_path}/client.pem"
        "&ssl_check_hostname=false&ssl_min_version=772"
    )
    assert url.ssl is not None
    assert (url.ssl.check_hostname, url.ssl.minimum_version) == (False, ssl.TLSVersion.TLSv1_3)
    assert any("trustme" in str(each) for each in url.ssl.get_ca_certs())
    assert url.ssl_options["ssl_check_hostname"] is False


def test_a_url_opens_a_hub_without_connecting():
    open_hub("redis://localhost:1", Settings())
    with pytest.raises(ConfigError, match="HOST:PORT"):
        open_hub("redis://localhost:x", Settings())


def test_redis_is_imported_only_when_used(tmp_path):
    for name in ("redis", "hiredis"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    program = (
        "from flowserve.topics.hub.open import open_hub; from flowserve.topics.settings import Settings\n"
        "open_hub('memory:', Settings())\n"
        "try: open_hub('redis://host', Settings())\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{program}"],
        capture_output=True,
        text=True,
    )
    expected = "ConfigError topics in Redis need redis-py and hiredis: pip install 'flowserve[redis]'\n"
    assert run.stdout == expected, run.stderr
