"""Configurations that were written for uvicorn, in all forms, where uvicorn is not installed."""

from __future__ import annotations

import copy
import json
import logging

import pytest
import yaml
from uvicorn.config import LOGGING_CONFIG

from flowserve.logs.access import CloseLine, HTTPLine, OpenLine
from flowserve.logs.uvicorn import AccessFormatter, DefaultFormatter

WITHOUT_UVICORN = """\
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "uvicorn":
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Absent())
"""
UVICORN = (0, 'INFO:     p - "GET / HTTP/1.1" 200 OK\n', "INFO:     info\nother\n")
"""What uvicorn writes by its own configuration."""

BARE = {"version": 1, "disable_existing_loggers": False}

INI = """\
[loggers]
keys=root,error,access
[handlers]
keys=err,out
[formatters]
keys=default,access
[logger_root]
level=WARNING
handlers=
[logger_error]
level=INFO
handlers=err
qualname=uvicorn.error
[logger_access]
level=INFO
handlers=out
propagate=0
qualname=uvicorn.access
[handler_err]
class=StreamHandler
formatter=default
args=(sys.stderr,)
[handler_out]
class=StreamHandler
formatter=access
args=(sys.stdout,)
[formatter_default]
class=uvicorn.logging.DefaultFormatter
format=%(levelprefix)s %(message)s
[formatter_access]
class=uvicorn.logging.AccessFormatter
format=%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.json", json.dumps(LOGGING_CONFIG)),
        ("log.yaml", yaml.safe_dump(LOGGING_CONFIG)),
        ("log.ini", INI),
        (LOGGING_CONFIG, None),
    ],
    ids=["json", "yaml", "ini", "dictionary"],
)
def test_in_each_form(logged, name, content):
    before = copy.deepcopy(LOGGING_CONFIG)
    assert logged(name, content, WITHOUT_UVICORN) == UVICORN
    assert before == LOGGING_CONFIG


def test_with_the_time_that_many_add(logged):
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["access"]["fmt"] = "%(asctime)s %(request_line)s"
    config["formatters"]["access"]["datefmt"] = "at"
    assert logged(config, None, WITHOUT_UVICORN)[1] == "at GET / HTTP/1.1\n"


def test_options_beside_it(logged):
    status, out, err = logged(LOGGING_CONFIG, None, WITHOUT_UVICORN, log_level="debug", access_log=False)
    assert (status, out, err) == (0, "", "DEBUG:    debug\nINFO:     info\nother\n")


def test_only_the_access_log(logged):
    """The other logger is as without a file."""
    level = {**BARE, "loggers": {"uvicorn.access": {"level": "WARNING"}}}
    assert logged(level, None, WITHOUT_UVICORN, log_time=False) == (0, "", "INFO:     info\nother\n")
    silent = {**BARE, "loggers": {"uvicorn.access": {"handlers": [], "propagate": False}}}
    assert logged(silent, None, WITHOUT_UVICORN, log_time=False) == (0, "", "INFO:     info\nother\n")


def test_what_propagates_to_the_root_logger(logged):
    config = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"] = {"uvicorn": {"level": "INFO"}, "uvicorn.access": {"handlers": ["access"]}}
    config["root"] = {"handlers": ["default"], "level": "WARNING"}
    line = UVICORN[1]
    message = 'p - "GET / HTTP/1.1" 200 0.0ms'
    expected = (0, line, f"INFO:     info\nINFO:     {message}\nWARNING:  other\n")
    assert logged(config, None, WITHOUT_UVICORN) == expected


def test_one_that_names_our_loggers_too(logged):
    config = copy.deepcopy(LOGGING_CONFIG)
    config["loggers"]["flowserve"] = {"handlers": ["default"], "level": "ERROR", "propagate": False}
    assert logged(config, None, WITHOUT_UVICORN)[1:] == ("", "other\n")


MINE = """\
import logging, sys
class Formatter(logging.Formatter):
    def format(self, record):
        client, method, path, version, status = record.args
        return f"{client}|{method}|{path}|{version}|{status:d}"
class Filter(logging.Filter):
    def filter(self, record):
        return record.args[2] != "/" or "200" not in record.getMessage()
sys.modules["mine"] = sys.modules["__main__"]
"""


@pytest.mark.parametrize("name", ["uvicorn.access", "flowserve.access"])
def test_a_users_own_formatter_and_filter_for_uvicorns_records(logged, name):
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["access"] = {"()": "mine.Formatter"}
    config["loggers"][name] = {"handlers": ["access"], "level": "INFO", "propagate": False}
    assert logged(config, None, MINE)[1] == "p|GET|/|1.1|200\n"
    config["filters"] = {"mine": {"()": "mine.Filter"}}
    config["loggers"][name]["filters"] = ["mine"]
    assert logged(config, None, MINE)[1] == ""


def test_a_formatter_of_uvicorns_that_is_not_known(logged):
    config = copy.deepcopy(LOGGING_CONFIG)
    config["formatters"]["access"] = {"()": "uvicorn.logging.Other"}
    status, out, err = logged("log.json", json.dumps(config), WITHOUT_UVICORN)
    assert (status, out) == (1, "")
    assert err.startswith("--log-config: 'log.json': Unable to configure formatter 'access': Cannot resolve 'uvicorn.")
    ours = "flowserve.logs.uvicorn.DefaultFormatter or AccessFormatter"
    assert err.endswith(f"No module named 'uvicorn'; name {ours}, which take the same formats\n")
    assert err.count("\n") == 1


FORMAT = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'
HOSTILE = '/\n" 200 forged'


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (HTTPLine("p", "GET", "/", "1.1", 404, 0.1, 0, ()), 'INFO:     p - "GET / HTTP/1.1" 404 Not Found'),
        (HTTPLine("p", "GET", "/", "1.1", 799, 0.1, 0, ()), 'INFO:     p - "GET / HTTP/1.1" 799'),
        (
            HTTPLine("p", "GET", HOSTILE, "1.1", 200, 0.1, 0, ()),
            'INFO:     p - "GET /\\n\\" 200 forged HTTP/1.1" 200 OK',
        ),
        (OpenLine("p", "/ws", None), 'INFO:     p - "WebSocket /ws" accepted'),
        (
            CloseLine("p", "/ws", 1000, 1.5, 1, 2, 3, 4, 0),
            'INFO:     p - "WebSocket /ws" closed 1000 after 1.5s, in 1 message 2B, out 3 messages 4B',
        ),
        ("none of ours", 'INFO:     - - "-" -'),
    ],
)
def test_lines(line, shown):
    record = logging.makeLogRecord({"msg": line, "levelname": "INFO", "levelno": logging.INFO})
    assert AccessFormatter(FORMAT).format(record) == shown
    assert "levelprefix" not in vars(record)


def test_colours():
    record = logging.makeLogRecord({"msg": "a", "levelname": "INFO", "levelno": logging.INFO})
    assert (
        DefaultFormatter("%(levelprefix)s %(message)s", use_colors=True).format(record) == "\x1b[32mINFO\x1b[0m:     a"
    )
    record.msg = HTTPLine("p", "GET", "/", "1.1", 404, 0.1, 0, ())
    assert AccessFormatter("%(status_code)s", use_colors=True).format(record) == "\x1b[31m404 Not Found\x1b[0m"
