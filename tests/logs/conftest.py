"""Logs as options set them up, on streams that the test reads."""

from __future__ import annotations

import io
import sys

import pytest

from flowserve.config import Config
from flowserve.logs.loggers import access, logger
from flowserve.logs.setup import set_up_logging


@pytest.fixture(autouse=True)
def _restore():
    """Leave both loggers as they were."""
    before = [(each, each.level, each.propagate, each.handlers[:]) for each in (logger, access)]
    yield
    for each, level, propagate, handlers in before:
        each.setLevel(level)
        each.propagate = propagate
        each.handlers[:] = handlers


@pytest.fixture
def streams(monkeypatch):
    """Replace stdout and stderr; streams(config) sets up the logs, by default without times, and returns (out, err)."""

    def setup(kind=io.StringIO, log_time=False, **options):
        out, err = kind(), kind()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            set_up_logging(Config("a:b", log_time=log_time, **options))
        return out, err

    monkeypatch.delenv("NO_COLOR", raising=False)
    return setup


LOGGED = """\
import logging, sys
from flowserve.logs.loggers import TRACE, access_http, logger
from flowserve.logs.setup import set_up_logging
from flowserve.config import Config
from flowserve.errors import ConfigError

logging.getLogger("other")
try:
    set_up_logging(Config("a:b", **eval(sys.argv[1])))
except ConfigError as error:
    sys.exit(str(error))
logger.debug("debug")
logger.info("info")
logger.log(TRACE, "trace")
access_http("p", "GET", "/", "1.1", 200, 0.0)
logging.getLogger("other").warning("other")
"""


@pytest.fixture
def logged(tmp_path, forks):
    """logged(name, content, **options): set up by that file and log; returns (exit status, stdout, stderr)."""

    def run(name, content, before="", **options):
        if content is not None:
            (tmp_path / name).write_bytes(content.encode("latin-1"))
        run = forks.run(before + LOGGED, repr({"log_config": name, **options}), cwd=tmp_path)
        return run.returncode, run.stdout, run.stderr

    return run
