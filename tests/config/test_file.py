"""flowserve.toml and [tool.flowserve]: what is read, what is refused, and that --print-config is such a file."""

from __future__ import annotations

import os
import re

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st
from support.forks import COMMAND

from flowserve.config import Config
from flowserve.config.config import OPTIONS
from flowserve.config.file import Given, as_file, find_file
from flowserve.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder):
    """write(content, name): such a file, whose name it returns."""

    def write(content, name="flowserve.toml"):
        (folder / name).write_text(content, "utf-8")
        return name

    return write


@pytest.fixture
def flowserve(forks, folder):
    """flowserve(*args, **environment): run the command to its end; only the given FLOWSERVE_* variables are there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWSERVE_")}

    def run(*args, **environment):
        return forks.run(COMMAND, *args, cwd=folder, env=kept | environment)

    return run


def unwarned(run):
    """What the command said on stderr, but for its warnings of what is open."""
    return "".join(line for line in run.stderr.splitlines(keepends=True) if not line.startswith("flowserve: warning: "))


def values(path=None):
    found = find_file(path)
    return None if found is None else (found.name, found.values)


# Which file


def test_no_file():
    assert find_file() is None


def test_flowserve_toml_goes_before_pyproject(write):
    write("[tool.flowserve]\nport = 1", "pyproject.toml")
    assert values() == ("pyproject.toml", {"port": 1})
    write("port = 2")
    assert values() == ("flowserve.toml", {"port": 2})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[project]\nname = 'x'",
        "[tool.other]\nflowserve = 1",
        "[project]\ndependencies = ['flowserve']",
        "tool = 'flowserve'",
        "not TOML at all",
    ],
)
def test_a_pyproject_that_does_not_speak_of_us(write, content):
    write(content, "pyproject.toml")
    assert find_file() is None


def test_a_named_file(write, folder):
    write("port = 1")
    write("port = 2", "other.toml")
    assert values("other.toml") == ("other.toml", {"port": 2})
    path = str(folder / "pyproject.toml")
    write("[tool.flowserve]\nport = 3", "pyproject.toml")
    assert values(path) == (path, {"port": 3})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("port = ", "flowserve.toml: not TOML: "),
        ("a = 1\na = 2", "flowserve.toml: not TOML: Cannot overwrite a value"),
        ("prot = 1", "flowserve.toml: there is no option 'prot'; did you mean port?"),
        ("headers = []", "flowserve.toml: there is no option 'headers'; did you mean header?"),
        ("ws_max_sise = 1", "flowserve.toml: there is no option 'ws_max_sise'; did you mean ws-max-size?"),
        ("zzz = 1", "flowserve.toml: there is no option 'zzz'; flowserve --help all shows them"),
        ("[tool.flowserve]\nport = 1", "flowserve.toml: there is no option 'tool'"),
        ("config = 'x'", "flowserve.toml: there is no option 'config'"),
        ("app-dir = 'a'\napp_dir = 'b'", "flowserve.toml: 'app_dir' stands there twice, with - and with _"),
        ("app = 1", 'flowserve.toml: app: write module:attribute as text, e.g. app = "main:app"'),
        ("app = ''", "flowserve.toml: app: write module:attribute"),
    ],
)
def test_broken_files(write, content, says):
    write(content)
    with pytest.raises(ConfigError) as caught:
        find_file()
    assert str(caught.value).startswith(says)
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_can_not_be_read(folder, write):
    for path, says in (("none.toml", "No such file or directory"), (".", "Is a directory")):
        with pytest.raises(ConfigError, match=rf"^--config: '{re.escape(path)}': {says}$"):
            find_file(path)
    (folder / "flowserve.toml").write_bytes(b"host = '\xe9'")
    with pytest.raises(ConfigError, match=r"^flowserve\.toml: not text in UTF-8, as TOML has to be$"):
        find_file()
    write("[tool.flowserve", "pyproject.toml")
    (folder / "flowserve.toml").unlink()
    with pytest.raises(ConfigError, match=r"^pyproject\.toml: not TOML: "):
        find_file()
    for content in ("", "[tool]", "tool = 1", "[tool]\nflowserve = 1"):
        write(content, "pyproject.toml")
        with pytest.raises(ConfigError, match=r"^pyproject\.toml: there is no table \[tool\.flowserve\] in it$"):
            find_file("pyproject.toml")
    with pytest.raises(ConfigError, match=r"^pyproject\.toml: there is no table \[tool\.flowserve\] in it$"):
        find_file()


# Values


@pytest.mark.parametrize(
    ("entry", "options"),
    [
        ("port = 1", {"port": 1}),
        ("port = '1'", {"port": 1}),
        ("access-log = false", {"access_log": False}),
        ("access_log = 'off'", {"access_log": False}),
        ("use-colors = 'auto'", {"use_colors": None}),
        ("use-colors = false", {"use_colors": False}),
        ("timeout-header = 0.5", {"timeout_header": 0.5}),
        ("timeout-header = 7", {"timeout_header": 7.0}),
        ("timeout-header = '2m'", {"timeout_header": 120.0}),
        ("ws-max-size = '1MiB'", {"ws_max_size": 1 << 20}),
        ("ws-max-size = 4096", {"ws_max_size": 4096}),
        ("ws-ping-interval = 'off'", {"ws_ping_interval": None}),
        ("ws-ping-interval = false", {"ws_ping_interval": None}),
        ("limit-concurrency = false", {"limit_concurrency": None}),
        ("ws-per-message-deflate = false", {"ws_per_message_deflate": False}),
        ("header = ['a: b', 'c: d']", {"headers": [("a", "b"), ("c", "d")]}),
        ("header = [['a', 'b']]", {"headers": [("a", "b")]}),
        ("header = 'a: b'", {"headers": [("a", "b")]}),
        ("bind = ['[::1]:1', 'unix:x y.sock,mode=660']", {"bind": ["[::1]:1", "unix:x y.sock,mode=660"]}),
        ("allowed-hosts = ['a.com', '*.b.com']", {"allowed_hosts": ["a.com", "*.b.com"]}),
        ("reload-dir = ['a b', 'c']", {"reload_dirs": ["a b", "c"]}),
    ],
)
def test_values(write, entry, options):
    write(entry)
    found = find_file()
    taken = {name: OPTIONS[name].convert(each.value, each.where) for name, each in found.given().items()}
    assert Config("a:b", **taken) == Config("a:b", **options)


# On the command line


def test_a_wrong_value_is_named_with_its_file_and_key(flowserve, write):
    write("app = 'a:b'\nws_max_size = '16 bananas'")
    run = flowserve()
    assert run.returncode == 2
    assert run.stderr == (
        "flowserve: error: flowserve.toml: ws-max-size: '16 bananas' is not a size;"
        " write a number of bytes or e.g. 16MiB\n"
    )


def test_files_that_are_named_but_not_there(flowserve):
    run = flowserve("--config", "none.toml")
    assert (run.returncode, run.stderr) == (2, "flowserve: error: --config: 'none.toml': No such file or directory\n")
    run = flowserve(FLOWSERVE_CONFIG="none.toml")
    assert run.stderr == "flowserve: error: FLOWSERVE_CONFIG: 'none.toml': No such file or directory\n"


def test_the_application_may_stand_in_the_file(flowserve, write):
    write("def app(): ...", "mine.py")
    write("app = 'mine:ap'\nport = 0")
    run = flowserve()
    assert run.returncode == 1
    assert "module mine has no attribute 'ap'; did you mean app" in run.stderr
    assert "module mine has no attribute 'pa'" in flowserve("mine:pa").stderr
    assert "module mine has no attribute 'pp'" in flowserve(FLOWSERVE_APP="mine:pp").stderr


# --print-config


def test_print_config_tells_where_each_value_comes_from(flowserve, write):
    write("raise SystemExit('imported')", "mine.py")
    write("app = 'mine:app'\nport = 1\nbacklog = 2\nws-max-size = 1048576\nworkers = 'auto'")
    run = flowserve("--port", "4", "--no-date-header", FLOWSERVE_PORT="3", FLOWSERVE_BACKLOG="30")
    assert "imported" in run.stderr
    run = flowserve("--print-config", "--port", "4", "--no-date-header", FLOWSERVE_PORT="3", FLOWSERVE_BACKLOG="30")
    assert (run.returncode, unwarned(run)) == (0, "")
    lines = [" ".join(line.split()) for line in run.stdout.splitlines()]
    for line in (
        'app = "mine:app" # flowserve.toml',
        "port = 4 # command line",
        "backlog = 30 # environment FLOWSERVE_BACKLOG",
        'ws-max-size = "1MiB" # flowserve.toml',
        'workers = "auto" # flowserve.toml',
        "date-header = false # command line",
        'host = "127.0.0.1" # default',
        'ws-idle-timeout = "off" # default',
        "# uds = # not set",
        "# Listening",
    ):
        assert line in lines
    shown = [re.match(r"(?:# )?([\w-]+) = ", line) for line in lines]
    assert [match[1] for match in shown if match] == ["app", *(option.word for option in OPTIONS.values())]


def test_print_config_without_an_application_or_with_a_wrong_value(flowserve):
    run = flowserve("--print-config")
    assert run.returncode == 0
    assert re.search(r"^# app = +# not set$", run.stdout, re.MULTILINE)
    run = flowserve("--print-config", "--port", "x")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("flowserve: error: --port: ")


def test_print_config_keeps_secrets(flowserve):
    run = flowserve("--print-config", "--ssl-certfile", "c.pem", FLOWSERVE_SSL_KEYFILE_PASSWORD="hunter2")
    assert "hunter2" not in run.stdout + run.stderr
    line = next(line for line in run.stdout.splitlines() if "ssl-keyfile-password" in line)
    assert " ".join(line.split()) == ('# ssl-keyfile-password = "***" # environment FLOWSERVE_SSL_KEYFILE_PASSWORD')


def test_what_print_config_prints_is_a_config_file(flowserve, write):
    options = [
        *("--bind", "[::1]:1", "--bind", 'unix:a "b\\c\u00e9.sock,mode=660', "--header", "X: 'a' \"b\"\t\\"),
        *("--ws-ping-interval", "off", "--timeout-header", "500ms", "--log-format", "json", "--metrics", "localhost:1"),
        *(
            "--no-access-log",
            "--workers",
            "2",
            "--reload-dir",
            "a:b",
            "--ws-shutdown-reason",
            "",
            "--app-dir",
            "\x1b[1m",
        ),
    ]
    first = flowserve("a:b", *options, "--print-config")
    assert (first.returncode, unwarned(first)) == (0, "")
    assert first.stdout.replace("\n", "").isprintable()
    write(first.stdout)
    second = flowserve("--print-config")
    assert (second.returncode, unwarned(second)) == (0, "")
    origin = re.compile(r" +# .*$", re.MULTILINE)
    assert origin.sub("", second.stdout) == origin.sub("", first.stdout)
    assert set(re.findall(r"^\w.* # (.*)$", second.stdout, re.MULTILINE)) == {"flowserve.toml"}
    parsed = tomli.loads(first.stdout)
    assert parsed["bind"] == ["[::1]:1", 'unix:a "b\\c\u00e9.sock,mode=660']
    assert (parsed["app-dir"], parsed["ws-shutdown-reason"], parsed["workers"]) == ("\x1b[1m", "", 2)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_text_is_shown_so_that_it_reads_back(text):
    config = Config("a:b", uds=text)
    shown = as_file(config, {"uds": Given(text, "command line"), "app": Given(text, "command line")})
    assert len(shown.splitlines()) == len(as_file(Config("a:b"), {}).splitlines())
    parsed = tomli.loads(shown)
    assert (parsed["uds"], parsed["app"]) == (text, text)


def test_what_toml_can_not_hold_is_a_comment():
    shown = as_file(Config("a:b", uds="/\udc80"), {"uds": Given("/\udc80", "command line")})
    assert "\n# uds = " in shown
    assert "uds" not in tomli.loads(shown)
