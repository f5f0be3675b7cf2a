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
    """Replace stdout and stderr; streams(config) sets up the logs and returns (out, err)."""

    def setup(kind=io.StringIO, **options):
        out, err = kind(), kind()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            set_up_logging(Config("a:b", **options))
        return out, err

    monkeypatch.delenv("NO_COLOR", raising=False)
    return setup
