"""What the server logs and where to, by options and by a file of the user's own."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from datetime import datetime

import pytest

from flowserve.logs.loggers import TRACE, access_http, access_websocket_close, access_websocket_open, logger

# Setting up


def test_importing_configures_nothing():
    code = (
        "import logging; from flowserve.logs.loggers import access, logger;"
        "assert not logger.handlers and not access.handlers and logger.propagate;"
        "assert logging.getLevelName(5) == 'Level 5'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_server_speaks_on_stderr_and_the_access_log_on_stdout(streams):
    out, err = streams()
    logger.info("listening on %s", "here")
    logger.warning("careful")
    access_http("127.0.0.1:5", "GET", "/", "1.1", 200, 0.0012)
    assert err.getvalue() == "INFO:     listening on here\nWARNING:  careful\n"
    assert out.getvalue() == 'INFO:     127.0.0.1:5 - "GET / HTTP/1.1" 200 1.2ms\n'


def test_a_second_setup_replaces_the_first(streams):
    first, _ = streams()
    second, _ = streams()
    access_http("p", "GET", "/", "1.1", 200, 0.0)
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_nothing_goes_to_the_root_logger(streams, caplog):
    streams()
    logger.error("ours")
    access_http("p", "GET", "/", "1.1", 200, 0.0)
    assert not caplog.records


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("critical", {"critical"}),
        ("error", {"critical", "error"}),
        ("warning", {"critical", "error", "warning"}),
        ("info", {"critical", "error", "warning", "info", "access"}),
        ("debug", {"critical", "error", "warning", "info", "access", "debug"}),
        ("trace", {"critical", "error", "warning", "info", "access", "debug", "trace"}),
    ],
)
def test_levels(streams, level, shown):
    out, err = streams(log_level=level)
    for name in ("critical", "error", "warning", "info", "debug"):
        logger.log(getattr(logging, name.upper()), name)
    logger.log(TRACE, "trace")
    access_http("access", "GET", "/", "1.1", 200, 0.0)
    lines = (err.getvalue() + out.getvalue()).splitlines()
    assert {line.split()[1] for line in lines} == shown
    assert all(line.split()[0] == f"{line.split()[1].upper()}:" for line in lines if "access" not in line)


def test_no_access_log(streams):
    out, err = streams(access_log=False)
    access_http("p", "GET", "/", "1.1", 200, 0.0)
    access_websocket_open("p", "/", None)
    access_websocket_close("p", "/", 1000, 0.0, 0, 0, 0, 0)
    assert out.getvalue() == err.getvalue() == ""


def test_exceptions_keep_their_traceback(streams):
    _, err = streams()
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("the application raised")
    lines = err.getvalue().splitlines()
    assert lines[0] == "ERROR:    the application raised"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: why"


def test_times(streams, monkeypatch):
    """They are those of the clock on the wall, and left out for systemd's journal, which has its own."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    out, err = streams(log_time=None)
    logger.info("a")
    access_http("p", "GET", "/", "1.1", 200, 0.0)
    logger.handle(logger.makeRecord("flowserve", logging.INFO, "", 0, "again", (), None))
    for line in err.getvalue().splitlines() + out.getvalue().splitlines():
        found = re.fullmatch(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) INFO:     .+", line)
        assert found
        assert abs((datetime.now() - datetime.fromisoformat(found[1])).total_seconds()) < 600


@pytest.mark.parametrize(("log_time", "shown"), [(None, False), (True, True), (False, False)])
def test_the_journal_has_times_of_its_own(streams, monkeypatch, tmp_path, log_time, shown):
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        streams(lambda: journal, log_time=log_time)
        logger.info("a")
        journal.seek(0)
        assert (journal.read() != "INFO:     a\n") == shown


# The access lines


def test_access_lines(streams):
    out, _ = streams()
    access_http("127.0.0.1:51234", "GET", "/path?a=b", "1.1", 404, 0.0012)
    access_websocket_open("127.0.0.1:51234", "/ws", None)
    access_websocket_open("[::1]:51234", "/ws", "chat.v1")
    access_websocket_close("[::1]:51234", "/ws", 1000, 12.34, 12, 3400, 7, 812)
    access_websocket_close("[::1]:51234", "/ws", 1000, 12.34, 12, 3400, 7, 812, dropped=5)
    assert out.getvalue().splitlines() == [
        'INFO:     127.0.0.1:51234 - "GET /path?a=b HTTP/1.1" 404 1.2ms',
        'INFO:     127.0.0.1:51234 - "WebSocket /ws" accepted',
        'INFO:     [::1]:51234 - "WebSocket /ws" accepted, subprotocol chat.v1',
        'INFO:     [::1]:51234 - "WebSocket /ws" closed 1000 after 12.3s, in 12 messages 3.4kB, out 7 messages 812B',
        'INFO:     [::1]:51234 - "WebSocket /ws" closed 1000 after 12.3s, in 12 messages 3.4kB, out 7 messages 812B,'
        " dropped 5",
    ]


# A file of the user's own. It reaches all loggers of the process, and so each test has one of its own.


DICT = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(name)s/%(levelname)s/%(message)s"},
        "access": {"()": "flowserve.logs.AccessFormatter", "format": "%(method)s %(status)s"},
        "json": {"()": "flowserve.logs.JSONFormatter"},
    },
    "handlers": {
        "plain": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stderr"},
        "access": {"class": "logging.StreamHandler", "formatter": "access", "stream": "ext://sys.stdout"},
        "json": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "flowserve": {"handlers": ["plain"], "level": "INFO", "propagate": False},
        "flowserve.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}
YAML = """\
version: 1
disable_existing_loggers: false
formatters:
  access: {class: flowserve.logs.AccessFormatter, format: "%(kind)s"}
handlers:
  out: {class: logging.StreamHandler, formatter: access, stream: ext://sys.stdout}
loggers:
  flowserve: {handlers: [out], level: TRACE}
"""
INI = """\
[loggers]
keys=root,flowserve
[handlers]
keys=out
[formatters]
keys=plain
[logger_root]
level=WARNING
handlers=
[logger_flowserve]
level=DEBUG
handlers=out
qualname=flowserve
propagate=0
[handler_out]
class=StreamHandler
formatter=plain
args=(sys.stdout,)
[formatter_plain]
format=%(name)s %(message)s
"""


def test_log_config_in_json(logged):
    assert logged("log.json", json.dumps(DICT)) == (0, "GET 200\n", "flowserve/INFO/info\nother\n")


def test_log_config_in_yaml(logged):
    assert logged("log.yaml", YAML) == (0, "debug\ninfo\ntrace\nhttp\n", "other\n")
    assert logged("log.yml", YAML)[0] == 0


def test_log_config_in_ini(logged):
    expected = 'flowserve debug\nflowserve info\nflowserve.access p - "GET / HTTP/1.1" 200 0.0ms\n'
    assert logged("log.ini", INI) == (0, expected, "other\n")
    assert logged("log.conf", INI)[0] == 0


def test_formatters_of_ours_in_ini(logged):
    status, out, err = logged(
        "log.ini", INI.replace("format=%(name)s %(message)s", "class=flowserve.logs.JSONFormatter")
    )
    assert (status, err) == (0, "other\n")
    assert [json.loads(line)["message"] for line in out.splitlines()][:2] == ["debug", "info"]


def test_a_file_that_does_not_know_flowserve(logged):
    """As one that was made for another server: what flowserve says is still there, and as ever."""
    theirs = {**DICT, "loggers": {"gunicorn.access": DICT["loggers"]["flowserve.access"]}}
    ours = (0, 'INFO:     p - "GET / HTTP/1.1" 200 0.0ms\n', "INFO:     info\nother\n")
    assert logged("log.json", json.dumps(theirs), log_time=False) == ours
    # other loggers are silenced, as such a file asks for, but not the server
    silent = {**theirs, "disable_existing_loggers": True}
    assert logged("log.json", json.dumps(silent), log_time=False) == (0, ours[1], "INFO:     info\n")


def test_what_a_file_says_of_the_root_logger_holds_for_flowserve(logged):
    rooted = {**DICT, "loggers": {}, "root": {"handlers": ["plain"], "level": "INFO"}}
    access = 'flowserve.access/INFO/p - "GET / HTTP/1.1" 200 0.0ms\n'
    expected = f"flowserve/INFO/info\n{access}other/WARNING/other\n"
    assert logged("log.json", json.dumps(rooted)) == (0, "", expected)


CONFIGURED = """\
import logging, sys
logging.basicConfig(level=logging.INFO, format="mine %(name)s %(message)s")
mine = logging.StreamHandler(sys.stdout)
logging.getLogger("flowserve.access").addHandler(mine)
"""


class Variable:
    """Stands for a variable of the program that logs."""

    def __repr__(self):
        return "parser"


def test_what_an_ini_file_is_parsed_to(logged):
    """In Python, as for uvicorn."""
    before = f"import configparser\nparser = configparser.ConfigParser()\nparser.read_string({INI!r})\n"
    assert logged(Variable(), None, before)[::2] == (0, "other\n")


def test_a_dictionary_that_is_wrong(logged):
    status, _, err = logged({"version": 1, "handlers": {"a": {"class": "no.such"}}}, None)
    assert status == 1
    assert err.startswith("--log-config: the dictionary: Unable to configure handler 'a': ")
    assert err.count("\n") == 1


def test_logging_that_the_program_has_configured(logged):
    """None leaves it alone, but for the level and the access log if those are given."""
    out = 'p - "GET / HTTP/1.1" 200 0.0ms\n'
    info, line = "mine flowserve info\n", f"mine flowserve.access {out}"
    assert logged(None, None, CONFIGURED) == (0, out, f"{info}{line}mine other other\n")
    assert logged(None, None, CONFIGURED, access_log=False) == (0, "", f"{info}mine other other\n")
    assert logged(None, None, CONFIGURED, log_level="warning") == (0, "", "mine other other\n")


def test_a_level_alone_and_silence_in_a_file_hold(logged):
    level = {"version": 1, "loggers": {"flowserve": {"level": "WARNING"}}}
    line = 'INFO:     p - "GET / HTTP/1.1" 200 0.0ms\n'
    assert logged("log.json", json.dumps(level), log_time=False) == (0, line, "")
    silent = {"version": 1, "loggers": {"flowserve.access": {"handlers": [], "propagate": False}}}
    assert logged("log.json", json.dumps(silent), log_time=False)[:2] == (0, "")


def test_a_dictionary_in_place_of_a_file(logged):
    assert logged(DICT, None) == (0, "GET 200\n", "flowserve/INFO/info\nother\n")
    status, out, err = logged({"version": 2}, None)
    assert (status, out) == (1, "")
    assert err == "--log-config: the dictionary: Unsupported version: 2\n"


def test_options_beside_a_file(logged):
    """A level other than the default holds beside the file, and there need be no access lines."""
    assert logged("log.json", json.dumps(DICT), log_level="debug", access_log=False) == (
        0,
        "",
        "flowserve/DEBUG/debug\nflowserve/INFO/info\nother\n",
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("log.json", None, "'log.json': No such file or directory"),
        ("log.json", "\xe9", "'log.json' is not text in UTF-8"),
        ("log.json", "{", "'log.json': Expecting property name enclosed in double quotes: line 1 column 2"),
        ("log.json", "[]", "'log.json': it holds no dictionary as logging.config.dictConfig takes it"),
        ("log.json", "{}", "'log.json': dictionary doesn't specify a version"),
        (
            "log.json",
            '{"version": 1, "handlers": {"x": {"class": "nowhere.Handler"}}}',
            "'log.json': Unable to configure handler 'x': Cannot resolve 'nowhere.Handler': No module named 'nowhere'",
        ),
        (
            "log.json",
            '{"version": 1, "formatters": {"x": {"()": "flowserve.logs.AccessFormatter", "format": "%(h)s"}}}',
            "'log.json': Unable to configure formatter 'x': there is no field 'h'; the fields are time, ",
        ),
        ("log.yaml", "a: [", "'log.yaml': while parsing a flow node"),
        ("log.yaml", "", "'log.yaml': it holds no dictionary"),
        ("log.ini", "", "'log.ini': no 'formatters'"),
        ("log.ini", "[loggers\n", "'log.ini': File contains no section headers."),
        ("log.ini", INI.replace("sys.stdout", "nonsense"), "'log.ini': name 'nonsense' is not defined"),
        (".", None, "'.': Is a directory"),
    ],
)
def test_broken_files(logged, name, content, says):
    status, out, err = logged(name, content)
    assert (status, out) == (1, "")
    assert err.startswith(f"--log-config: {says}")
    assert err.count("\n") == 1


def test_yaml_that_is_not_installed(logged):
    status, _, err = logged("log.yaml", YAML, before="import sys; sys.modules['yaml'] = None\n")
    assert status == 1
    assert err == (
        "--log-config: 'log.yaml': pyyaml is missing; pip install pyyaml, or write the file as JSON or INI\n"
    )
