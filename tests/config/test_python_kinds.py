"""Values that are Python's: levels, configurations of logging, event loops."""

from __future__ import annotations

import configparser
import io
import logging

import pytest

from flowserve.config import Config
from flowserve.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "level"),
    [
        (logging.CRITICAL, "critical"),
        (logging.INFO, "info"),
        ("30", "warning"),
        ("Warn", "warning"),
        (21, "warning"),
        (1, "trace"),
        (99, "critical"),
    ],
)
def test_levels(given, level):
    assert Config("a:b", log_level=given).log_level == level


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "loud", "-5", [], b"info"])
def test_what_is_no_level(wrong):
    with pytest.raises(
        ConfigError, match=r"^log_level: .* is not one of critical, error, warning, info, debug, trace$"
    ):
        Config("a:b", log_level=wrong)


def test_configurations_of_logging():
    parser = configparser.RawConfigParser()
    for value in ("", "file.ini", {"version": 1}, parser, None):
        assert Config("a:b", log_config=value).log_config == value
    assert Config("a:b", log_config=" None ").log_config is None
    read = Config("a:b", log_config=io.StringIO("[loggers]\nkeys=root")).log_config  # type: ignore[arg-type]
    assert isinstance(read, configparser.RawConfigParser)
    assert read["loggers"]["keys"] == "root"
    for wrong, says in ((7, "text is wanted"), (io.StringIO("keys"), "no section headers"), ([], "text is wanted")):
        with pytest.raises(ConfigError, match=f"^log_config: .*{says}"):
            Config("a:b", log_config=wrong)  # type: ignore[arg-type]


def test_event_loops():
    for name in ("auto", "uvloop", "asyncio", "zuvloop", "module:factory", "a.b:c.d"):
        assert Config("a:b", loop=name).loop == name
    assert Config("a:b", loop="none").loop == "asyncio"
    for wrong in ("trio", "a:", ":b", "a b:c", "a:b:c", 7, ""):
        with pytest.raises(
            ConfigError, match=r"^loop: .* is not one of auto, uvloop, asyncio, zuvloop, nor module:fac"
        ):
            Config("a:b", loop=wrong)  # type: ignore[arg-type]
