"""The real command line: what it takes, what it says when something is wrong, and its exit status."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import types
from importlib import metadata

import click
import pytest
from click.testing import CliRunner
from support.forks import COMMAND

from flowserve.cli import main
from flowserve.compiled import deflate_name
from flowserve.config import Config
from flowserve.config.addresses import Bind
from flowserve.config.config import OPTIONS
from flowserve.errors import ConfigError, FlowserveError, StartupFailed
from flowserve.logs.loggers import access, logger

APPS = """\
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

async def refuses(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is away"})

def create():
    return app

def wsgi(environ, start_response):
    return []

number = 7
"""

STARLETTE = """\
import contextlib
from starlette.applications import Starlette

@contextlib.asynccontextmanager
async def lifespan(app):
    raise ValueError("the database is away")
    yield

app = Starlette(lifespan=lifespan)
"""

ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if not key.startswith("FLOWSERVE_") or key in ("FLOWSERVE_PURE", "FLOWSERVE_NO_EXTENSIONS")
}


@pytest.fixture
def apps(tmp_path):
    (tmp_path / "apps.py").write_text(APPS)
    return tmp_path


@pytest.fixture
def flowserve(forks):
    """flowserve(folder, *args, **environment): run the command to its end in `folder`."""

    def run(folder, *args, **environment):
        return forks.run(COMMAND, *args, cwd=folder, env=ENVIRONMENT | environment)

    return run


def started(folder, *args, **environment):
    """The same, from the start of the interpreter on."""
    return subprocess.run(
        [sys.executable, "-m", "flowserve", *args],
        cwd=folder,
        env=ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_one_line(run, status, says):
    """One line on stderr that holds `says`, nothing on stdout, the exit status `status`."""
    assert run.stderr.startswith("flowserve: error: "), run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
    assert says in run.stderr
    assert run.stdout == ""
    assert run.returncode == status


# --version


def test_version(tmp_path):
    from flowserve import __version__
    from flowserve.compiled import is_compiled

    run = started(tmp_path, "--version")
    assert (run.returncode, run.stderr) == (0, "")
    try:
        loop = f"uvloop {metadata.version('uvloop')}"
    except metadata.PackageNotFoundError:
        loop = "no uvloop"
    assert run.stdout == (
        f"flowserve {__version__} ({'compiled' if is_compiled() else 'pure Python'}), "
        f"{platform.python_implementation()} {platform.python_version()}, {loop}, "
        f"httptools {metadata.version('httptools')}, {deflate_name()}\n"
    )


def test_version_of_the_python_files(tmp_path):
    run = started(tmp_path, "--version", FLOWSERVE_PURE="1")
    assert run.returncode == 0, run.stderr
    assert " (pure Python), " in run.stdout


def test_version_without_uvloop(monkeypatch):
    def version(package):
        if package == "uvloop":
            raise metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr("flowserve.cli.own_options.metadata.version", version)
    assert (
        CliRunner().invoke(main, ["--version"]).output.endswith(", no uvloop, httptools 1.0, " + deflate_name() + "\n")
    )


# Wrong usage: exit status 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "no application found: none of main.py, app.py, api.py, asgi.py and no package is in "),
        (["apps"], "'apps': there is no such file, folder or module in "),
        (["apps.py"], "'apps.py': there is no such file or folder in "),
        (["dev", "a:b", "--no-such-option"], "(see flowserve dev --help)"),
        (["--help", "bananas"], "--help bananas: no option has to do with it; write --help all, or listening, "),
        (["--install-completion", "tcsh"], "--install-completion: 'tcsh' is unknown"),
        (["a:b", "--no-such-option"], "o such option"),
        (["a:b", "c:d"], "unexpected extra argument"),
        (["a:b", "--port"], "--port"),
        (["a:b", "--port", "http"], "--port: 'http' is not a whole number from 0 to 65535"),
        (["a:b", "--ws-max-size", "16 bananas"], "--ws-max-size: '16 bananas' is not a size; write a number of bytes"),
        (["a:b", "--timeout-header", "soon"], "--timeout-header: 'soon' is not a duration"),
        (["a:b", "--loop", "trio"], "--loop: 'trio' is not one of auto, uvloop, asyncio"),
        (["a:b", "--header", "nothing"], "--header: 'nothing' is not a header; write 'Name: value'"),
        (["a:b", "--access-log=yes"], "--access-log"),
        (["a:b", "--uds", "s", "--fd", "3"], "--uds, --fd and --bind exclude each other"),
        (["a:b", "--ssl-keyfile", "k.pem"], "give --ssl-certfile"),
    ],
)
def test_wrong_usage(flowserve, tmp_path, args, says):
    assert_one_line(flowserve(tmp_path, *args), 2, says)


def test_wrong_usage_from_the_start(tmp_path):
    assert_one_line(started(tmp_path, "a:b", "--no-such-option"), 2, "o such option")


def test_options_that_have_no_effect_are_not_suggested():
    said = CliRunner().invoke(main, ["a:b", "--htp"]).stderr
    assert "'--host'" in said
    assert "'--http" not in said


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FLOWSERVE_PORT", "tcp://10.0.0.1:80", "FLOWSERVE_PORT: 'tcp://10.0.0.1:80' is not a whole number"),
        ("FLOWSERVE_ACCESS_LOG", "maybe", "FLOWSERVE_ACCESS_LOG: 'maybe' is neither on nor off"),
        ("FLOWSERVE_WS_MAX_SIZE", "16 bananas", "FLOWSERVE_WS_MAX_SIZE: '16 bananas' is not a size"),
        ("FLOWSERVE_HEADER", "nothing", "FLOWSERVE_HEADER: 'nothing' is not a header"),
    ],
)
def test_wrong_environment(flowserve, tmp_path, name, value, says):
    assert_one_line(flowserve(tmp_path, "a:b", **{name: value}), 2, says)


# What cannot start: exit status 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["no_such_module_here:app"], "module 'no_such_module_here' not found in "),
        (["apps:ap"], "'apps:ap': module apps has no attribute 'ap'; did you mean app"),
        (["folder/apps:app"], "write module:attribute, e.g. folder.apps:app"),
        (["apps:number"], "apps:number is an int, not an ASGI application"),
        (["apps:create"], "apps:create needs no arguments; if it makes the application, add --factory"),
        (["apps:wsgi"], "use --interface wsgi"),
        (["apps:number", "--factory"], "--factory: apps:number is an int, not a function"),
        (["apps:app", "--app-dir", "nowhere"], "--app-dir: 'nowhere' is not a folder"),
    ],
)
def test_wrong_applications(flowserve, apps, args, says):
    assert_one_line(flowserve(apps, *args, "--port", "0"), 1, says)


def test_app_from_the_environment(flowserve, apps):
    assert_one_line(flowserve(apps, FLOWSERVE_APP="apps:ap"), 1, "module apps has no attribute 'ap'")


@pytest.mark.parametrize(
    ("source", "lines", "last"),
    [
        ("settings = {}\nname = settings['NAME']\n", ["broken.py", "settings['NAME']"], "KeyError: 'NAME'"),
        ("import no_such_module_here\n", ["broken.py", "import no_such_module_here"], "No module named"),
        ("def app(:\n", ["broken.py", "def app(:"], "SyntaxError"),
    ],
)
def test_what_the_application_raises_on_import_is_shown(flowserve, tmp_path, source, lines, last):
    (tmp_path / "broken.py").write_text(source)
    run = flowserve(tmp_path, "broken:app", "--port", "0")
    assert run.returncode == 1
    *trace, line = run.stderr.splitlines()
    assert line.startswith("flowserve: error: 'broken:app' could not be loaded: its code raised ")
    assert last in trace[-1]
    for part in lines:
        assert any(part in each for each in trace)
    # only the application's own frames
    assert "loader.py" not in run.stderr
    assert "importlib" not in run.stderr
    assert "cli.py" not in run.stderr


def test_what_a_factory_raises_is_shown(flowserve, tmp_path):
    (tmp_path / "broken.py").write_text("def create():\n    return 1 / 0\n")
    run = flowserve(tmp_path, "broken:create", "--factory", "--port", "0")
    assert run.returncode == 1
    assert "return 1 / 0" in run.stderr
    assert "loader.py" not in run.stderr
    assert run.stderr.splitlines()[-1].endswith("its code raised ZeroDivisionError")


def test_an_application_that_ends_the_process_on_import(flowserve, tmp_path):
    (tmp_path / "broken.py").write_text("raise SystemExit(7)\n")
    run = flowserve(tmp_path, "broken:app", "--port", "0")
    assert (run.returncode, run.stderr) == (7, "")


def test_an_interrupt_on_import_prints_no_traceback(flowserve, tmp_path):
    (tmp_path / "slow.py").write_text("raise KeyboardInterrupt\n")
    run = flowserve(tmp_path, "slow:app", "--port", "0")
    assert run.returncode == 130
    assert "Traceback" not in run.stderr


def test_port_in_use(flowserve, apps):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = flowserve(apps, "apps:app", "--port", str(port), "--log-level", "error")
    assert_one_line(run, 1, str(port))
    assert "in use" in run.stderr


def test_missing_certificate(flowserve, apps):
    run = flowserve(apps, "apps:app", "--port", "0", "--ssl-certfile", "nowhere.pem", "--log-level", "error")
    assert_one_line(run, 1, "nowhere.pem")


def test_failed_lifespan_startup(flowserve, apps):
    run = flowserve(apps, "apps:refuses", "--port", "0", "--log-level", "critical")
    assert_one_line(run, 3, "the database is away")


def test_failed_lifespan_startup_with_a_traceback_for_a_reason(flowserve, tmp_path):
    (tmp_path / "apps.py").write_text(STARLETTE)
    run = flowserve(tmp_path, "apps:app", "--port", "0", "--log-level", "critical")
    assert run.returncode == 3
    lines = run.stderr.splitlines()
    assert lines[-1] == "flowserve: error: application startup failed: ValueError: the database is away"
    assert lines[-2] == "ValueError: the database is away"
    assert run.stderr.count("Traceback") == 1
    assert "never retrieved" not in run.stderr


# A clean run: exit status 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("args", [["apps:app"], ["apps:create", "--factory"], ["apps:app", "--log-level", "trace"]])
def test_a_signal_ends_the_server_cleanly(apps, number, args):
    command = [sys.executable, "-m", "flowserve", *args, "--port", "0"]
    with subprocess.Popen(command, cwd=apps, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stderr.readline, "")
            assert any(re.search(r"http://127\.0\.0\.1:[1-9]\d*", line) for line in lines)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err


# From the command line and the environment to the Config, without a server


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """parsed(*args, env=None, error=None): the command with a server that raises `error`; returns (Config, result)."""
    before = [(each, each.level, each.propagate, each.handlers[:]) for each in (logger, access)]

    def invoke(*args, env=None, error=None):
        configs = []

        def run(config):
            configs.append(config)
            if error is not None:
                raise error

        monkeypatch.setitem(sys.modules, "flowserve.supervisor", types.SimpleNamespace(run_config=run))
        result = CliRunner().invoke(main, args, env=env)
        return (configs[0] if configs else None), result

    for name in os.environ:
        if name.startswith("FLOWSERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield invoke
    for each, level, propagate, handlers in before:
        each.setLevel(level)
        each.propagate = propagate
        each.handlers[:] = handlers


GIVEN = {
    "reload_delay": ("1s", 1.0),
    "host": ("::1", "::1"),
    "port": ("0", 0),
    "fd": ("3", 3),
    "backlog": ("10", 10),
    "app_dir": ("src", "src"),
    "root_path": ("/api", "/api"),
    "lifespan": ("off", "off"),
    "loop": ("asyncio", "asyncio"),
    "interface": ("wsgi", "wsgi"),
    "wsgi_threads": ("8", 8),
    "log_level": ("trace", "trace"),
    "log_query": ("omit", "omit"),
    "headers": ("X-One: 1", (("X-One", "1"),)),
    "limit_concurrency": ("100", 100),
    "timeout_keep_alive": ("500ms", 0.5),
    "timeout_disconnect": ("10s", 10.0),
    "limit_request_body": ("10MiB", 10 << 20),
    "shutdown_delay": ("15s", 15.0),
    "timeout_body": ("off", None),
    "timeout_response": ("1m", 60.0),
    "timeout_graceful_shutdown": ("1m", 60.0),
    "ws_max_size": ("1MiB", 1 << 20),
    "ws_max_queue": ("1", 1),
    "ws_ping_interval": ("off", None),
    "ws_ping_timeout": ("5", 5.0),
    "ssl_keyfile": ("k.pem", "k.pem"),
    "ssl_certfile": ("c.pem", "c.pem"),
    "ssl_keyfile_password": ("secret", "secret"),
    "ssl_ca_certs": ("ca.pem", "ca.pem"),
    "ssl_cert_reqs": ("2", "required"),
    "ssl_ciphers": ("HIGH", "HIGH"),
    "h1_max_header_size": ("32KiB", 32768),
    "h1_max_header_count": ("64", 64),
    "timeout_header": ("5s", 5.0),
    "timeout_handshake": ("6s", 6.0),
    "ws_max_frames_per_message": ("16", 16),
    "ws_close_timeout": ("1s", 1.0),
    "ws_per_message_deflate": ("off", False),
    "ws_deflate_context": ("takeover", "takeover"),
    "ws_deflate_level": ("1", 1),
    "ws_deflate_server_window_bits": ("12", 12),
    "ws_deflate_client_window_bits": ("8", 8),
    "ws_deflate_mem_level": ("5", 5),
    "ws_deflate_threshold": ("1KiB", 1024),
    "ws_idle_timeout": ("1h", 3600.0),
    "timeout_worker_healthcheck": ("5s", 5.0),
    "limit_max_requests": ("1000", 1000),
    "limit_max_requests_jitter": ("100", 100),
    "workers_max_lifetime": ("1d", 86400.0),
    "workers_max_rss": ("1GiB", 1 << 30),
    "pid_file": ("f.pid", "f.pid"),
    "reload_dirs": ("src", ("src",)),
    "reload_includes": ("*.html", ("*.html",)),
    "reload_excludes": ("*.tmp,*.bak", ("*.tmp", "*.bak")),
    "timeout_drain": ("20s", 20.0),
    "ws_shutdown_code": ("1001", 1001),
    "ws_shutdown_reason": ("bye", "bye"),
    "log_format": ("json", "json"),
    "access_log_format": ("%(client)s", "%(client)s"),
    "limit_connections_per_address": ("50", 50),
    "ws_max_connections": ("9", 9),
    "ws_max_lifetime": ("2h", 7200.0),
    "ws_send_timeout": ("7s", 7.0),
    "ws_slow_consumer": ("drop", "drop"),
    "ws_slow_consumer_mark": ("64KiB", 65536),
    "ws_slow_consumer_code": ("1008", 1008),
    "ssl_version_min": ("1.3", "TLSv1.3"),
    "ssl_handshake_timeout": ("3s", 3.0),
    "forwarded_allow_ips": ("10.0.0.0/8,unix", ("10.0.0.0/8", "unix")),
    "allowed_hosts": ("a.com,*.b.com", ("a.com", "*.b.com")),
    "ws_allowed_origins": ("https://a.com", ("https://a.com",)),
    "metrics": ("127.0.0.1:9100", Bind(host="127.0.0.1", port=9100)),
    "health_path": ("/health", "/health"),
    "topics_url": ("redis://:secret@host", "redis://:secret@host"),
    "topics_history": ("7", 7),
    "topics_history_size": ("64KiB", 65536),
    "topics_history_age": ("2m", 120.0),
    "topics_max_topics": ("9", 9),
    "topics_max_memory": ("2GiB", 2 << 30),
    "topics_max_name": ("20", 20),
    "topics_max_size": ("1kB", 1000),
    "topics_max_per_connection": ("8", 8),
    "topics_max_pending": ("2MiB", 2 << 20),
}
EXCLUDED = {"uds", "bind", "workers", "log_config", "env_file"}
"""Each of these excludes another one, or needs a file."""
SWITCHES = {name: not option.default for name, option in OPTIONS.items() if option.kind.switch}
EXPECTED = Config("a:b", **{name: value for name, (_, value) in GIVEN.items()}, **SWITCHES)


def test_the_tables_above_hold_every_option():
    assert set(GIVEN) | set(SWITCHES) | EXCLUDED == set(OPTIONS)


def test_every_option_on_the_command_line(parsed):
    args = [part for name, (text, _) in GIVEN.items() for part in (OPTIONS[name].flag, text)]
    args += [f"--{'' if value else 'no-'}{OPTIONS[name].word}" for name, value in SWITCHES.items()]
    config, result = parsed(*args, "a:b")
    assert result.exit_code == 0, result.output
    assert config == EXPECTED


def test_every_option_from_the_environment(parsed):
    env = {OPTIONS[name].env: text for name, (text, _) in GIVEN.items()}
    env |= {OPTIONS[name].env: "on" if value else "off" for name, value in SWITCHES.items()}
    config, result = parsed(env=env | {"FLOWSERVE_APP": "a:b"})
    assert result.exit_code == 0, result.output
    assert config == EXPECTED


def test_without_options_the_defaults_hold(parsed):
    config, result = parsed("a:b")
    assert result.exit_code == 0, result.output
    assert config == Config("a:b")
    assert parsed("a:b", "--uds", "x.sock")[0] == Config("a:b", uds="x.sock")
    assert parsed("a:b", "--workers", "3")[0] == Config("a:b", workers=3)
    with open("l.json", "w") as file:
        file.write('{"version": 1, "incremental": true}')
    assert parsed("a:b", "--log-config", "l.json")[0] == Config("a:b", log_config="l.json")
    binds = [part for each in ("[::1]:80", "unix:x,mode=660", "fd:3", "systemd") for part in ("--bind", each)]
    assert parsed("a:b", *binds)[0] == Config("a:b", bind="[::1]:80 unix:x,mode=660 fd:3 systemd")


def test_the_command_line_goes_before_the_environment(parsed):
    env = {"FLOWSERVE_PORT": "wrong", "FLOWSERVE_ACCESS_LOG": "off", "FLOWSERVE_APP": "c:d", "FLOWSERVE_HEADER": "a: b"}
    config, result = parsed("a:b", "--port", "1", "--access-log", "--header", "c: d", env=env)
    assert result.exit_code == 0, result.output
    assert config == Config("a:b", port=1, headers=[("c", "d")])


def test_an_empty_variable_counts_as_not_given(parsed):
    config, _ = parsed("a:b", env={"FLOWSERVE_PORT": "", "FLOWSERVE_ACCESS_LOG": ""})
    assert config == Config("a:b")


def test_headers_repeat(parsed):
    expected = Config("a:b", headers=[("x", "1"), ("y", "2: 3")])
    assert parsed("a:b", "--header", "x: 1", "--header", "y: 2: 3")[0] == expected
    assert parsed("a:b", env={"FLOWSERVE_HEADER": "x: 1\ny: 2: 3"})[0] == expected


WRONG = {
    "host": "",
    "uds": "",
    "bind": "nowhere",
    "root_path": "api",
    "ws_shutdown_code": "1006",
    "ws_shutdown_reason": "x" * 124,
    "pid_file": "",
    "access_log_format": "%(h)s",
    "log_config": "no_such_file.json",
    "env_file": "no_such_file",
    "metrics": "nowhere",
    "health_path": "health",
    "headers": "nothing",
    "allowed_hosts": "a b/c",
    "ws_allowed_origins": "example.com",
    "forwarded_allow_ips": "somewhere",
    **dict.fromkeys((name for name in OPTIONS if name.startswith("ssl_")), ""),
}
"""For each option that takes a text, a wrong one; the others are told that they are 'wrong'."""
ANY_TEXT = {"app_dir", "reload_dirs", "reload_includes", "reload_excludes"}
"""What could be wrong with these shows later."""


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - ANY_TEXT))
def test_every_option_refuses_a_wrong_value_in_one_line(parsed, name):
    """On the command line, in the environment, and in a file."""
    option, wrong = OPTIONS[name], WRONG.get(name, "wrong")
    flag = [f"{option.flag}=wrong"] if option.kind.switch else [option.flag, wrong]
    with open("c.toml", "w") as file:
        file.write(f"{option.word} = {json.dumps(wrong)}")
    sources = {option.flag: parsed("a:b", *flag), f"c.toml: {option.word}": parsed("a:b", "--config", "c.toml")}
    if wrong:  # an empty variable gives nothing
        sources[option.env] = parsed("a:b", env={option.env: wrong})
    for named, (config, result) in sources.items():
        assert config is None
        assert result.exit_code == 2
        assert result.output.startswith("flowserve: error: ")
        assert result.output.count("\n") == 1
        assert (option.flag if name in ("log_config", "env_file") else named) in result.output


# Options that exclude each other: the source of higher rank decides


def test_the_command_line_says_where_to_listen_whatever_a_file_says(parsed):
    with open("flowserve.toml", "w") as file:
        file.write('bind = ["127.0.0.1:1", "unix:x.sock"]\nbacklog = 7')
    assert parsed("a:b")[0] == Config("a:b", bind=["127.0.0.1:1", "unix:x.sock"], backlog=7)
    assert parsed("a:b", "--port", "2")[0] == Config("a:b", port=2, backlog=7)
    assert parsed("a:b", "--uds", "y")[0] == Config("a:b", uds="y", backlog=7)
    assert parsed("a:b", env={"FLOWSERVE_FD": "3"})[0] == Config("a:b", fd=3, backlog=7)
    assert parsed("a:b", "--host", "::1", env={"FLOWSERVE_PORT": "4"})[0] == Config(
        "a:b", host="::1", port=4, backlog=7
    )
    _, result = parsed("a:b", "--uds", "y", "--fd", "3")
    assert "exclude each other" in result.output


def test_reload_on_the_command_line_whatever_a_file_says(parsed):
    with open("flowserve.toml", "w") as file:
        file.write('workers = 4\nlog-format = "json"\naccess-log-format = "%(kind)s"')
    with open("l.json", "w") as file:
        file.write('{"version": 1, "incremental": true}')
    in_file = {"log_format": "json", "access_log_format": "%(kind)s"}
    assert parsed("a:b")[0] == Config("a:b", workers=4, **in_file)
    assert parsed("a:b", "--reload")[0] == Config("a:b", reload=True, **in_file)
    assert parsed("a:b", "--no-reload")[0] == Config("a:b", workers=4, **in_file)
    assert parsed("a:b", env={"FLOWSERVE_LOG_CONFIG": "l.json"})[0] == Config("a:b", workers=4, log_config="l.json")
    assert parsed("a:b", "--workers", "2", env={"FLOWSERVE_RELOAD": "on"})[0] == Config("a:b", workers=2, **in_file)
    both = Config("a:b", reload=True, **in_file)
    assert parsed("a:b", "--workers", "1", env={"FLOWSERVE_RELOAD": "on"})[0] == both
    config, result = parsed("a:b", "--workers", "2", "--reload")
    assert config == both
    assert result.output.startswith("flowserve: warning: workers has no effect with reload")


# Other commands


def test_another_command_takes_the_place_of_an_application(flowserve, tmp_path):
    run = flowserve(tmp_path, "top", "--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("Usage: flowserve top ")
    assert_one_line(flowserve(tmp_path, "top", "--no-such-option"), 2, "(see flowserve top --help)")


@pytest.mark.parametrize(
    ("raised", "status", "says"),
    [
        (None, 0, ""),
        (4, 4, ""),
        (click.UsageError("no such thing"), 2, "no such thing (see flowserve top --help)"),
        (ConfigError("--this is wrong"), 2, "--this is wrong"),
        (FlowserveError("nobody is there"), 1, "nobody is there"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_another_command_ends(monkeypatch, raised, status, says):
    @click.command()
    @click.pass_context
    def top(ctx):
        if isinstance(raised, int):
            ctx.exit(raised)
        if raised is not None:
            raise raised

    monkeypatch.setitem(sys.modules, "flowserve.commands.top", types.SimpleNamespace(top=top))
    result = CliRunner().invoke(main, ["top"])
    assert result.exit_code == status
    assert result.output.strip() == (f"flowserve: error: {says}" if says else "")


def test_the_logs_are_set_up(parsed):
    parsed("a:b", "--log-level", "debug")
    assert logger.level == logging.DEBUG
    assert logger.handlers


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConfigError("port 80 is in use"), 1), (StartupFailed("no database"), 3), (KeyboardInterrupt(), 130)],
)
def test_exit_status(parsed, error, status):
    _, result = parsed("a:b", error=error)
    assert result.exit_code == status
    assert result.output == (f"flowserve: error: {error}\n" if str(error) else "")


# The application that is meant


def test_an_application_is_found_and_named(parsed, tmp_path, caplog):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("def create_app():\n    return None\n")
    (tmp_path / "other.py").write_text("async def app(scope, receive, send): ...\n")
    config, result = parsed("src/main.py")
    assert (config.app, config.app_dir, config.factory) == ("main:create_app", "src", True), result.output
    config, result = parsed()
    assert (config.app, config.app_dir, config.factory) == ("main:create_app", "src", True)
    assert "Serving main:create_app() from src/main.py\n" in result.output
    config, result = parsed(env={"FLOWSERVE_APP": "other.py"})
    assert (config.app, config.app_dir, config.factory) == ("other:app", "", False)
    (tmp_path / "flowserve.toml").write_text('app = "other"\n')
    assert parsed()[0].app == "other:app"
    assert parsed("a:b")[0].app == "a:b"
    assert "Serving" not in parsed("a:b")[1].output


def test_print_config_tells_what_was_found(parsed, tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "main.py").write_text("async def app(scope, receive, send): ...\n")
    _, result = parsed("pkg", "--print-config")
    found = {line.partition(" ")[0]: line for line in result.stdout.splitlines()}
    assert re.fullmatch(r'app = "main:app" +# command line: pkg', found["app"])
    assert re.fullmatch(r'app-dir = "pkg" +# command line: pkg', found["app-dir"])
    _, result = parsed("--print-config")
    assert result.exit_code == 0
    assert re.search(r"^# app = +# not set$", result.stdout, re.MULTILINE)


def test_dev(parsed, tmp_path):
    (tmp_path / "flowserve.toml").write_text('bind = ["0.0.0.0:80"]\nworkers = 4\ntimeout-drain = "1m"\nport = 81\n')
    config, result = parsed("dev", "a:b", env={"FLOWSERVE_LOG_LEVEL": "error"})
    assert config is not None, result.output
    assert (config.reload, config.workers, config.log_level) == (True, 1, "debug")
    assert (config.bind, config.host, config.port) == ((), "127.0.0.1", 81)
    assert (config.timeout_drain, config.timeout_graceful_shutdown) == (0.0, 5.0)
    config, _ = parsed("dev", "a:b", "--no-reload", "--bind", "unix:s", "--log-level", "info")
    assert (config.reload, config.log_level, config.bind) == (False, "info", (Bind(path="s"),))
    (tmp_path / "dev.py").write_text("async def app(scope, receive, send): ...\n")
    assert parsed("dev.py")[0].app == "dev:app"
    assert "# flowserve dev\n" in parsed("dev", "--print-config")[1].stdout


def test_our_own_mistakes_are_shown_whole(parsed):
    _, result = parsed("a:b", error=RuntimeError("ours"))
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["RuntimeError: ours", "flowserve: error: stopped by an unexpected RuntimeError"]


def test_help_is_quick(tmp_path):
    code = (
        "import sys; from click.testing import CliRunner; from flowserve.cli import main;"
        "CliRunner().invoke(main, ['--help']); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "uvloop" not in run.stdout.split()
