"""Setup of both loggers by the options, or by the file that --log-config names."""

from __future__ import annotations

import configparser
import json
import logging
import logging.config
import os
import sys
from typing import Any, Protocol, TextIO

from flowserve.errors import ConfigError
from flowserve.logs.formatters import AccessFormatter, HumanFormatter, JSONFormatter
from flowserve.logs.handler import StreamHandler
from flowserve.logs.loggers import TRACE, access, logger


class LogOptions(Protocol):
    """The options that configure logging; a `Config` has them."""

    @property
    def access_log(self) -> bool: ...
    @property
    def access_log_format(self) -> str | None: ...
    @property
    def log_config(self) -> str | None: ...
    @property
    def log_format(self) -> str: ...
    @property
    def log_level(self) -> str: ...
    @property
    def use_colors(self) -> bool | None: ...


def set_up_logging(options: LogOptions) -> None:
    """Configure both loggers by the file that --log-config names, or by the options: `flowserve` writes to stderr,
    `flowserve.access` to stdout.

    `use_colors` says whether to use colours; if it is None, they are used on a terminal unless NO_COLOR is set. A
    second call replaces the configuration of the first. Raises ConfigError for a file that cannot be read or is
    invalid.
    """
    logging.addLevelName(TRACE, "TRACE")
    for each in (logger, access):
        each.handlers[:] = []
        each.setLevel(logging.NOTSET)
        each.propagate = True
    unconfigured = [logger, access]
    if options.log_config is not None:
        _load(options.log_config)
        unconfigured = [each for each in unconfigured if not each.hasHandlers()]
    for each in unconfigured:
        _set_up(each, options)
    if options.log_config is not None and options.log_level != "info":
        logger.setLevel(options.log_level.upper())
    if not options.access_log:
        access.setLevel(logging.CRITICAL + 1)


def _set_up(each: logging.Logger, options: LogOptions) -> None:
    stream: TextIO | None = sys.stdout if each is access else sys.stderr  # None under pythonw
    formatter: logging.Formatter
    if options.log_format == "json":
        formatter = JSONFormatter(options.access_log_format)
    elif each is access and options.access_log_format is not None:
        formatter = AccessFormatter(options.access_log_format)
    else:
        formatter = HumanFormatter(_want_colours(stream, options.use_colors))
    handler = StreamHandler(stream) if stream is not None else logging.NullHandler()
    handler.setFormatter(formatter)
    each.addHandler(handler)
    each.setLevel(options.log_level.upper())
    each.propagate = False


def _load(path: str) -> None:
    """Configure logging by the file at `path`: JSON or YAML by its extension, otherwise INI."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"--log-config: {path!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--log-config: {path!r} is not text in UTF-8") from None
    try:
        if path.endswith(".json"):
            logging.config.dictConfig(_dictionary(json.loads(text)))
        elif path.endswith((".yaml", ".yml")):
            logging.config.dictConfig(_dictionary(_yaml(text)))
        else:
            parser = configparser.ConfigParser()
            parser.read_string(text)
            logging.config.fileConfig(parser, disable_existing_loggers=False)
    except Exception as error:  # whatever the file's own names and arguments raise
        raise ConfigError(f"--log-config: {path!r}: {_reason(error)}") from None
    for each in (logger, access):
        each.disabled = False  # a file that does not mention them must not disable them


def _dictionary(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it holds no dictionary as logging.config.dictConfig takes it")
    return value


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ValueError("YAML needs PyYAML; install flowserve[yaml], or write the file as JSON or INI") from None
    return yaml.safe_load(text)


def _reason(error: Exception) -> str:
    """Return what is wrong with the file in one line, with the causes of the error: those of logging itself are
    vague."""
    reasons: list[str] = []
    inner: BaseException | None = error
    while inner is not None:
        reason = " ".join(str(inner).split()) or type(inner).__name__
        if not reasons or reason not in reasons[-1]:
            reasons.append(f"no {reason}" if isinstance(inner, KeyError) else reason)
        inner = inner.__cause__
    return ": ".join(reasons)


def _want_colours(stream: TextIO | None, use_colors: bool | None) -> bool:
    if use_colors is not None:
        return use_colors
    return stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")
