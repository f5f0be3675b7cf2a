"""Setup of both loggers by the options, or by the file that --log-config names."""

from __future__ import annotations

import configparser
import json
import logging
import logging.config
import os
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from flowserve.errors import ConfigError, install_hint
from flowserve.logs.access import NAMED_FORMATS, OpenLine
from flowserve.logs.formatters import AccessFormatter, HumanFormatter, JSONFormatter, want_colours
from flowserve.logs.handler import StreamHandler
from flowserve.logs.loggers import TRACE, access, logger
from flowserve.logs.uvicorn import adopt_loggers, name_our_formatters, with_our_formatters


class LogOptions(Protocol):
    """The options that configure logging; a `Config` has them."""

    @property
    def access_log(self) -> bool: ...
    @property
    def access_log_format(self) -> str | None: ...
    @property
    def log_config(self) -> str | Mapping[str, Any] | configparser.RawConfigParser | None: ...
    @property
    def log_format(self) -> str: ...
    @property
    def log_level(self) -> str: ...
    @property
    def log_time(self) -> bool | None: ...
    @property
    def use_colors(self) -> bool | None: ...


def set_up_logging(options: LogOptions) -> None:
    """Configure both loggers by the file that --log-config names, or the dictionary that it is in Python, or by the
    options: `flowserve` writes to stderr, `flowserve.access` to stdout. If `log_config` is None, the program has
    configured logging: handlers are left as they are.

    `use_colors` and `log_time` say whether to use colours and to show times; if they are None, colours are used on a
    terminal unless NO_COLOR is set, and times where systemd's journal does not add its own. A second call replaces the
    configuration of the first. Raises ConfigError for a file that cannot be read or is invalid.
    """
    logging.addLevelName(TRACE, "TRACE")
    if options.log_config is not None:
        _set_up_handlers(options)
    if options.log_config != "" and options.log_level != "info":
        logger.setLevel(options.log_level.upper())
    if not options.access_log:
        access.setLevel(logging.CRITICAL + 1)


def _set_up_handlers(options: LogOptions) -> None:
    for each in (logger, access):
        each.handlers[:] = []
        each.setLevel(logging.NOTSET)
        each.propagate = True
    unconfigured = [logger, access]
    if options.log_config is not None and options.log_config != "":
        _load(options.log_config)
        unconfigured = [each for each in unconfigured if each.propagate and not each.hasHandlers()]
    for each in unconfigured:
        _set_up(each, options)


def _set_up(each: logging.Logger, options: LogOptions) -> None:
    stream: TextIO | None = sys.stdout if each is access else sys.stderr  # None under pythonw
    if stream is not None and stream.closed:
        stream = None
    formatter: logging.Formatter
    if options.log_format == "json":
        formatter = JSONFormatter(options.access_log_format)
    elif each is access and options.access_log_format is not None:
        formatter = AccessFormatter(options.access_log_format)
    else:
        times = options.log_time if options.log_time is not None else not _is_journal(stream)
        formatter = HumanFormatter(want_colours(stream, options.use_colors), times)
    handler = StreamHandler(stream) if stream is not None else logging.NullHandler()
    handler.setFormatter(formatter)
    if options.access_log_format in NAMED_FORMATS:
        handler.addFilter(_is_complete)
    each.addHandler(handler)
    if each.level == logging.NOTSET:  # the file says nothing else
        each.setLevel(options.log_level.upper())
    each.propagate = False


def _is_complete(record: logging.LogRecord) -> bool:
    """Whether it is not the begin of a WebSocket: where Apache and nginx are imitated, it has one line, at its end."""
    return not isinstance(record.msg, OpenLine)


def _is_journal(stream: TextIO | None) -> bool:
    """Whether systemd's journal reads the stream (systemd.exec(5), JOURNAL_STREAM): it has times of its own."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())  # type: ignore[union-attr]  # AttributeError for None
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def _load(source: str | Mapping[str, Any] | configparser.RawConfigParser) -> None:
    """Configure logging by a file of that name, or by what `logging.config` takes."""
    name = repr(source) if isinstance(source, str) else "the dictionary"
    try:
        named = _load_file(source) if isinstance(source, str) else _apply(source)
    except OSError as error:
        raise ConfigError(f"--log-config: {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--log-config: {name} is not text in UTF-8") from None
    except Exception as error:  # whatever the file's own names and arguments raise
        raise ConfigError(f"--log-config: {name}: {_reason(error)}") from None
    for each in (logger, access):
        each.disabled = False  # a file that does not mention them must not disable them
    adopt_loggers(named)


def _load_file(path: str) -> list[str]:
    """Configure logging by the file at `path`: JSON or YAML by its extension, otherwise INI. Return the names of the
    loggers that it configures."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if path.endswith(".json"):
        return _apply(json.loads(text))
    if path.endswith((".yaml", ".yml")):
        return _apply(_yaml(text))
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return _apply(parser)


def _apply(config: Any) -> list[str]:
    """Configure logging by a dictionary or a parsed INI file; return the names of the loggers in it."""
    if isinstance(config, configparser.RawConfigParser):  # which is a Mapping too
        name_our_formatters(config)
        logging.config.fileConfig(config, disable_existing_loggers=False)
        return [config.get(section, "qualname", fallback="") for section in config.sections()]
    if not isinstance(config, Mapping):
        raise ValueError("it holds no dictionary as logging.config.dictConfig takes it")
    logging.config.dictConfig(with_our_formatters(dict(config)))
    return list(config.get("loggers") or ())


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ValueError(f"{install_hint('pyyaml')}, or write the file as JSON or INI") from None
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
    if any("No module named 'uvicorn" in reason for reason in reasons):
        reasons[-1] += "; name flowserve.logs.uvicorn.DefaultFormatter or AccessFormatter, which take the same formats"
    return ": ".join(reasons)
