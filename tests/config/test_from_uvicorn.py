"""Moving from uvicorn: the page that lists all that it has is complete, and true in each of its rows."""

from __future__ import annotations

import inspect
import logging
import re
import ssl
import warnings
from pathlib import Path
from typing import Any

import click
import pytest
import uvicorn
from click.testing import CliRunner
from support.documents import section

import flowserve
from flowserve.cli import main
from flowserve.config import Config
from flowserve.config.config import OPTIONS
from flowserve.config.from_uvicorn import DEFAULTS_FROM, FOREIGN, UNSET_BY_NONE
from flowserve.errors import ConfigError

PAGE = "examples/coming-from-uvicorn.md"
UVICORN: click.Command = uvicorn.main  # type: ignore[assignment]
KEYWORDS = set(inspect.signature(uvicorn.Config).parameters) | set(inspect.signature(uvicorn.run).parameters)


def rows(heading: str) -> list[tuple[str, str, str]]:
    """The rows of the table under the heading: uvicorn's name, what it is here, and what is said of it."""
    found = re.findall(r"^\| (`.*?) \| (\w*) \| ?(.*?) ?\|$", section(PAGE, heading), re.MULTILINE)
    assert found
    return [(name, here, text) for name, here, text in found]


def keyword_of(cell: str) -> str:
    """uvicorn's keyword in the first cell of a row: `ws_max_size` for `--ws-max-size`."""
    return re.findall(r"`([\w-]+)`", cell)[-1].removeprefix("--").replace("-", "_")


TABLE = {keyword_of(name): (here, text) for name, here, text in rows("Options and keywords")}
SAME = [name for name, (here, _) in TABLE.items() if here in ("same", "differs") and name not in ("version", "help")]

# The page is complete


def test_every_keyword_of_uvicorn_has_a_row():
    assert set(TABLE) == KEYWORDS - {"app"} | {"version", "help"}


def test_every_option_of_uvicorn_has_a_row():
    named = {word for name, _, _ in rows("Options and keywords") for word in re.findall(r"`(--[\w-]+)`", name)}
    words = {param.opts[0] for param in UVICORN.params if isinstance(param, click.Option)}
    assert named == words | {"--help"}
    python_only = {name for name, (_, text) in TABLE.items() if text.startswith("Python only")}
    flags = {param.name for param in UVICORN.params}
    assert python_only == KEYWORDS - flags - {"app"}


def test_every_attribute_has_a_row():
    config = uvicorn.Config("a:b", log_config=None)
    server = uvicorn.Server(config)
    for heading, theirs, more in (("Config", config, KEYWORDS), ("Server", server, set())):
        has = {name for name in (*vars(theirs), *dir(type(theirs))) if not name.startswith("_")} - more
        at_run_time = {"servers", "lifespan"} if heading == "Server" else set()
        assert {keyword_of(name) for name, _, _ in rows(heading)} == has | at_run_time


def test_every_name_of_the_package_has_a_row():
    names = {
        name for cell, _, _ in rows("Names on the command line and in Python") for name in re.findall("`(.*?)`", cell)
    }
    assert {f"uvicorn.{name}" for name in (*uvicorn.__all__, "__version__")} <= names
    for name in (each.removeprefix("uvicorn.") for each in names if each.startswith("uvicorn.") and " " not in each):
        module, _, attribute = f"uvicorn.{name}".rpartition(".")
        if module != "uvicorn.workers":  # needs gunicorn, and warns that it is deprecated
            assert hasattr(__import__(module, fromlist=[attribute]), attribute), name


# What is the same is there


def test_what_the_page_says_of_names():
    config = Config("a:b")
    for heading, owner in (("Config", config), ("Server", flowserve.Server(config))):
        for cell, here, text in rows(heading):
            name = keyword_of(cell)
            assert hasattr(owner, name) == (here == "same"), name
            for call in re.findall(r"^`(\w+)(?:\(\))?`", text) if here == "other" else ():
                assert hasattr(owner, call), call
    for cell, here, text in rows("Names on the command line and in Python"):
        if (named := re.match(r"`flowserve\.([\w.]+)`", text)) and "gunicorn" not in text:
            module, _, attribute = f"flowserve.{named[1]}".rpartition(".")
            assert hasattr(__import__(module, fromlist=[attribute]), attribute), cell
            assert here == "other" or attribute in flowserve.__all__


def test_the_variables_of_the_page():
    shared = [cell.strip("`") for cell, here, _ in rows("Environment variables") if here == "same"]
    assert shared == list(DEFAULTS_FROM)


# Options that are the same: each is tried through the command itself and by its keyword

PEM = "cert.pem"
TLS = ["--ssl-certfile", PEM]
COMMAND_LINE: dict[str, list[tuple[list[str], str]]] = {
    "host": [(["--host", "0.0.0.0"], '"0.0.0.0"'), (["--host", "::1"], '"::1"')],
    "port": [(["--port", "80"], "80"), (["--port=0"], "0")],
    "uds": [(["--uds", "/tmp/a.sock"], '"/tmp/a.sock"')],
    "fd": [(["--fd", "3"], "3")],
    "loop": [
        *((["--loop", name], f'"{name}"') for name in ("auto", "asyncio", "uvloop", "zuvloop", "my.loops:make")),
        (["--loop", "none"], '"asyncio"'),
    ],
    "ws_max_size": [(["--ws-max-size", "1048576"], '"1MiB"')],
    "ws_max_queue": [(["--ws-max-queue", "64"], "64")],
    "ws_ping_interval": [(["--ws-ping-interval", "5.5"], '"5.5s"'), (["--ws-ping-interval", "0"], '"off"')],
    "ws_ping_timeout": [(["--ws-ping-timeout", "5"], '"5s"')],
    "ws_per_message_deflate": [
        (["--ws-per-message-deflate", "False"], "false"),
        (["--ws-per-message-deflate", "true"], "true"),
        (["--ws-per-message-deflate", "f"], "false"),
    ],
    "lifespan": [(["--lifespan", name], f'"{name}"') for name in ("auto", "on", "off")],
    "interface": [(["--interface", name], f'"{name}"') for name in ("auto", "asgi3", "asgi2", "wsgi")],
    "env_file": [(["--env-file", ".env"], '".env"')],
    "log_config": [(["--log-config", "log.yaml"], '"log.yaml"')],
    "log_level": [
        (["--log-level", name], f'"{name}"') for name in ("critical", "error", "warning", "info", "debug", "trace")
    ],
    "access_log": [(["--no-access-log"], "false"), (["--access-log"], "true")],
    "use_colors": [(["--use-colors"], "true"), (["--no-use-colors"], "false")],
    "reload": [(["--reload"], "true")],
    "reload_dirs": [(["--reload-dir", "a", "--reload-dir", "b"], '["a", "b"]')],
    "reload_includes": [(["--reload-include", "*.html"], '["*.html"]')],
    "reload_excludes": [(["--reload-exclude", "tests/*"], '["tests/*"]')],
    "reload_delay": [(["--reload-delay", "0.5"], '"500ms"')],
    "workers": [(["--workers", "4"], "4")],
    "proxy_headers": [(["--no-proxy-headers"], "false"), (["--proxy-headers"], "true")],
    "server_header": [(["--no-server-header"], "false"), (["--server-header"], "true")],
    "date_header": [(["--no-date-header"], "false"), (["--date-header"], "true")],
    "forwarded_allow_ips": [
        (["--forwarded-allow-ips", "*"], '["*"]'),
        (["--forwarded-allow-ips", "10.0.0.1,10.1.0.0/16,::1"], '["10.0.0.1", "10.1.0.0/16", "::1"]'),
    ],
    "root_path": [(["--root-path", "/api/v1"], '"/api/v1"')],
    "limit_concurrency": [(["--limit-concurrency", "100"], "100")],
    "backlog": [(["--backlog", "128"], "128")],
    "limit_max_requests": [(["--limit-max-requests", "1000"], "1000")],
    "limit_max_requests_jitter": [(["--limit-max-requests-jitter", "50"], "50")],
    "timeout_keep_alive": [(["--timeout-keep-alive", "65"], '"65s"')],
    "timeout_graceful_shutdown": [(["--timeout-graceful-shutdown", "10"], '"10s"')],
    "timeout_worker_healthcheck": [(["--timeout-worker-healthcheck", "5"], '"5s"')],
    "ssl_keyfile": [([*TLS, "--ssl-keyfile", "key.pem"], '"key.pem"')],
    "ssl_certfile": [(TLS, f'"{PEM}"')],
    "ssl_keyfile_password": [([*TLS, "--ssl-keyfile-password", "secret"], '"***"')],
    "ssl_cert_reqs": [
        ([*TLS, "--ssl-ca-certs", "ca.pem", "--ssl-cert-reqs", number], f'"{name}"')
        for number, name in (("0", "none"), ("1", "optional"), ("2", "required"))
    ],
    "ssl_ca_certs": [([*TLS, "--ssl-ca-certs", "ca.pem"], '"ca.pem"')],
    "ssl_ciphers": [([*TLS, "--ssl-ciphers", "TLSv1"], '"TLSv1"')],
    "headers": [(["--header", "X-A:b", "--header", "X-C: d"], '["X-A: b", "X-C: d"]')],
    "factory": [(["--factory"], "true")],
    "app_dir": [(["--app-dir", "src"], '"src"')],
}
"""For each option, words of a command line for uvicorn and what --print-config then shows."""


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """shown(*args, **environment): what `flowserve --print-config` prints, and what it says."""
    monkeypatch.chdir(tmp_path)
    for name in (".env", "log.yaml"):
        Path(name).write_text("")
    for folder in ("a", "b"):
        Path(folder).mkdir()

    def run(*args, **environment):
        result = CliRunner().invoke(main, [*args, "--print-config"], env=environment)
        assert result.exit_code == 0, result.output
        lines = [line for line in result.stderr.splitlines() if " has no effect" in line or " is not read" in line]
        return result.stdout, lines

    return run


def test_each_option_that_is_the_same_is_tried():
    assert set(SAME) == set(COMMAND_LINE) | {"ssl_context_factory", "callback_notify", "timeout_notify"}


@pytest.mark.parametrize(
    ("name", "args", "value"), [(name, *each) for name, tried in COMMAND_LINE.items() for each in tried]
)
def test_a_command_line_for_uvicorn(name, args, value, shown):
    assert UVICORN.make_context("uvicorn", ["a:b", *args]).params[name] is not None
    out, lines = shown("a:b", *args)
    assert lines == []
    word = re.escape(OPTIONS[name].word)
    assert re.search(rf"^(?:# )?{word} = {re.escape(value)} +# command line$", out, re.MULTILINE), out


KEYWORD: dict[str, list[tuple[Any, Any]]] = {
    "host": [("0.0.0.0", "0.0.0.0")],
    "port": [(80, 80)],
    "uds": [(None, None), ("a.sock", "a.sock")],
    "fd": [(None, None), (3, 3)],
    "loop": [("none", "asyncio"), ("uvloop", "uvloop"), ("my.loops:make", "my.loops:make")],
    "ws_max_size": [(1024, 1024)],
    "ws_max_queue": [(1, 1)],
    "ws_ping_interval": [(None, None), (0, None), (0.0, None), (20, 20.0)],
    "ws_ping_timeout": [(None, None), (20.5, 20.5)],
    "ws_per_message_deflate": [(False, False)],
    "lifespan": [("on", "on")],
    "interface": [("wsgi", "wsgi")],
    "env_file": [(None, None), (Path(".env"), ".env")],
    "log_config": [(None, None), ({"version": 1}, {"version": 1}), (Path("l.ini"), "l.ini")],
    "log_level": [
        *((None, "info"), (logging.WARNING, "warning"), ("warn", "warning"), (logging.DEBUG, "debug"), (5, "trace")),
        *(("INFO", "info"), (25, "warning"), (60, "critical"), ("fatal", "critical"), (1, "trace")),
    ],
    "access_log": [(False, False)],
    "use_colors": [(None, None), (True, True)],
    "reload": [(True, True)],
    "reload_dirs": [(None, ()), ("src", ("src",)), (["a", "b"], ("a", "b"))],
    "reload_includes": [(None, ("*.py",)), ("*.html", ("*.html",)), (["a", "b"], ("a", "b"))],
    "reload_excludes": [(None, (".*", "__pycache__")), ("tests", ("tests",))],
    "reload_delay": [(0.5, 0.5)],
    "workers": [(None, 1), (4, 4)],
    "proxy_headers": [(False, False)],
    "server_header": [(False, False)],
    "date_header": [(False, False)],
    "forwarded_allow_ips": [(None, ("127.0.0.1", "::1", "unix")), ("*", ("*",)), (["10.0.0.1"], ("10.0.0.1",))],
    "root_path": [("", ""), ("/api", "/api")],
    "limit_concurrency": [(None, None), (10, 10)],
    "backlog": [(10, 10)],
    "limit_max_requests": [(None, None), (10, 10)],
    "limit_max_requests_jitter": [(10, 10)],
    "timeout_keep_alive": [(65, 65.0)],
    "timeout_notify": [(10, 10.0)],
    "timeout_graceful_shutdown": [(None, 30.0), (0, 0.0), (10, 10.0)],
    "timeout_worker_healthcheck": [(5, 5.0)],
    "callback_notify": [(None, None), (print, print)],
    "ssl_keyfile": [(None, None), (Path("k.pem"), "k.pem")],
    "ssl_certfile": [(None, None), (Path("c.pem"), "c.pem")],
    "ssl_keyfile_password": [(None, None), ("secret", "secret")],
    "ssl_cert_reqs": [(ssl.CERT_NONE, "none"), (ssl.CERT_OPTIONAL, "optional"), (ssl.CERT_REQUIRED, "required")],
    "ssl_ca_certs": [(None, None), (Path("ca.pem"), "ca.pem")],
    "ssl_ciphers": [(None, None), ("TLSv1", "TLSv1")],
    "ssl_context_factory": [(None, None), (print, print)],
    "headers": [(None, ()), ([("a", "b")], (("a", "b"),)), ([["a", "b"]], (("a", "b"),))],
    "factory": [(True, True)],
    "app_dir": [(None, ""), ("src", "src")],
}
"""For each keyword, values that a program passes to uvicorn, and what `Config` makes of them."""


def test_each_keyword_that_is_the_same_is_tried():
    assert set(SAME) == set(KEYWORD)
    for name, parameter in inspect.signature(uvicorn.run).parameters.items():
        if name in KEYWORD and "None" in str(parameter.annotation):
            assert any(value is None for value, _ in KEYWORD[name]), name


@pytest.mark.parametrize(
    ("name", "value", "expected"), [(name, *each) for name, tried in KEYWORD.items() for each in tried]
)
def test_a_keyword_for_uvicorn(name, value, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("")
    tls = {"ssl_certfile": PEM, "ssl_ca_certs": "ca.pem"} if name.startswith("ssl_") and value is not None else {}
    assert getattr(Config("a:b", **{**tls, name: value}), name) == expected


def test_none_is_the_default_where_uvicorn_has_none_and_flowserve_a_value():
    config = Config("a:b", **dict.fromkeys(UNSET_BY_NONE))
    assert config == Config("a:b")
    none = {name for name, each in inspect.signature(uvicorn.run).parameters.items() if "None" in str(each.annotation)}
    assert none >= UNSET_BY_NONE


# Options that flowserve doesn't have

IGNORED = {name: text for name, (here, text) in TABLE.items() if here == "ignored"}
VALUES: dict[str, list[Any]] = {
    "http": ["h11", "httptools", "zttp"],
    "http2": [True],
    "ws": ["websockets", "websockets-sansio", "wsproto"],
    "ssl_version": [ssl.PROTOCOL_TLSv1_2.value],
    "reset_contextvars": [True],
}
SILENT: dict[str, list[Any]] = {
    "http": ["auto"],
    "http2": [False],
    "ws": ["auto"],
    "ssl_version": [ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS.value, 17],
    "reset_contextvars": [False],
}


def test_the_page_says_what_the_warning_says():
    assert {name: FOREIGN[name].answer for name in IGNORED} == IGNORED
    assert set(IGNORED) == set(VALUES) == set(SILENT)
    renamed = {name: text for name, (here, text) in TABLE.items() if here == "renamed"}
    assert renamed == {name: each.answer for name, each in FOREIGN.items() if each.option}
    assert all(f"`{OPTIONS[each.option].flag}`" == each.answer for each in FOREIGN.values() if each.option)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in VALUES.items() for value in values])
def test_what_has_no_effect_is_said(name, value, shown, tmp_path):
    foreign = FOREIGN[name]
    args = [foreign.flag] if value is True else [foreign.flag, str(value)]
    spoken = "" if value is True else f" {value}"
    assert shown("a:b", *args)[1] == [f"flowserve: warning: {foreign.flag}{spoken} has no effect: {foreign.answer}"]
    with pytest.warns(UserWarning, match=re.escape(f"{name}{spoken} has no effect: {foreign.answer}")) as caught:
        assert Config("a:b", **{name: value}) == Config("a:b")
    assert [each.filename for each in caught] == [__file__]
    (tmp_path / "flowserve.toml").write_text(f"{foreign.word} = {repr(value).lower()}")
    assert shown("a:b")[1] == [
        f"flowserve: warning: flowserve.toml: {foreign.word}{spoken} has no effect: {foreign.answer}"
    ]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SILENT.items() for value in values])
def test_what_asks_for_the_default_is_taken_without_a_word(name, value, shown):
    assert Config("a:b", **{name: value}) == Config("a:b")
    if not isinstance(value, bool):
        assert shown("a:b", FOREIGN[name].flag, str(int(value) if isinstance(value, int) else value))[1] == []


def test_no_websockets_at_all_is_answered_by_itself(shown):
    (line,) = shown("a:b", "--ws", "none")[1]
    assert line.startswith("flowserve: warning: --ws none has no effect: WebSockets are always served; ")


class Protocol:
    pass


@pytest.mark.parametrize("name", ["http", "ws"])
def test_protocols_of_others_are_refused(name):
    for value in (Protocol, "my.protocol:Protocol", 7, None):
        with pytest.raises(
            ConfigError, match=rf"^{name}: .*; flowserve runs its own implementation only, leave it out$"
        ):
            Config("a:b", **{name: value})


def test_the_size_of_a_head(shown):
    out, lines = shown("a:b", "--h11-max-incomplete-event-size", "9000")
    assert lines == []
    assert 'h1-max-header-size = "9kB"  ' in out
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Config("a:b", h11_max_incomplete_event_size=9000).h1_max_header_size == 9000
        assert Config("a:b", h11_max_incomplete_event_size=None) == Config("a:b")
    out, _ = shown("a:b", "--h11-max-incomplete-event-size", "9000", "--h1-max-header-size", "1000")
    assert 'h1-max-header-size = "1kB"  ' in out
    result = CliRunner().invoke(main, ["a:b", "--h11-max-incomplete-event-size", "many"])
    assert result.stderr.startswith("flowserve: error: --h11-max-incomplete-event-size: 'many' is not a size")


# Environment


def test_web_concurrency_is_the_default_of_workers(shown, tmp_path):
    assert re.search(
        "^workers = 3 .*# environment WEB_CONCURRENCY$", shown("a:b", WEB_CONCURRENCY="3")[0], re.MULTILINE
    )
    assert "workers = 2 " in shown("a:b", "--workers", "2", WEB_CONCURRENCY="3")[0]
    assert "workers = 2 " in shown("a:b", FLOWSERVE_WORKERS="2", WEB_CONCURRENCY="3")[0]
    assert "workers = 1 " in shown("a:b", "--reload", WEB_CONCURRENCY="3")[0]
    (tmp_path / ".env").write_text("WEB_CONCURRENCY=5")
    assert "workers = 5 " in shown("a:b", "--env-file", ".env")[0]
    assert "workers = 3 " in shown("a:b", "--env-file", ".env", WEB_CONCURRENCY="3")[0]
    (tmp_path / "flowserve.toml").write_text("workers = 4")
    assert "workers = 4 " in shown("a:b", WEB_CONCURRENCY="3")[0]
    result = CliRunner().invoke(main, ["a:b", "--config", ".env"], env={"WEB_CONCURRENCY": "many"})
    assert result.exit_code == 2


def test_a_wrong_web_concurrency_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["a:b"], env={"WEB_CONCURRENCY": "many"})
    assert result.stderr.startswith("flowserve: error: WEB_CONCURRENCY: 'many' is not a whole number")
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with pytest.raises(ConfigError, match=r"^WEB_CONCURRENCY: 'many' is not a whole number"):
        Config("a:b")


def test_forwarded_allow_ips_is_the_default_of_the_option(shown):
    out, _ = shown("a:b", FORWARDED_ALLOW_IPS="10.0.0.1")
    assert re.search(r'^forwarded-allow-ips = \["10.0.0.1"\] +# environment FORWARDED_ALLOW_IPS$', out, re.MULTILINE)
    out, _ = shown("a:b", "--forwarded-allow-ips", "10.0.0.2", FORWARDED_ALLOW_IPS="10.0.0.1")
    assert 'forwarded-allow-ips = ["10.0.0.2"] ' in out


def test_both_in_python(monkeypatch, tmp_path):
    async def app(scope, receive, send):
        pass

    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    config = Config("a:b")
    assert (config.workers, config.forwarded_allow_ips) == (3, ("10.0.0.1",))
    assert Config("a:b", workers=None).workers == 3
    assert Config("a:b", workers=2).workers == 2
    assert Config("a:b", reload=True).workers == 1
    assert Config(app).workers == 1  # which several processes could not load
    monkeypatch.delenv("WEB_CONCURRENCY")
    (tmp_path / ".env").write_text("WEB_CONCURRENCY=5")
    assert Config("a:b", env_file=tmp_path / ".env").workers == 5


def test_variables_of_uvicorn_are_named(shown):
    _, lines = shown("a:b", UVICORN_HOST="::", UVICORN_RELOAD_DIRS="a", UVICORN_WS="none", UVICORN_MINE="x")
    assert lines == [
        "flowserve: warning: UVICORN_HOST is not read; write FLOWSERVE_HOST",
        "flowserve: warning: UVICORN_RELOAD_DIRS is not read; write FLOWSERVE_RELOAD_DIR",
        f"flowserve: warning: UVICORN_WS is not read: {FOREIGN['ws'].answer}",
    ]
    _, lines = shown("a:b", "--host", "::", UVICORN_HOST="::", UVICORN_PORT="80", FLOWSERVE_PORT="80")
    assert lines == []
