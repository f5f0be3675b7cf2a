"""A gunicorn worker class: `gunicorn -k flowserve.gunicorn.Worker myapp:app`.

gunicorn binds the sockets, forks and replaces workers, and writes the log; each worker runs a `Server` on gunicorn's
sockets. gunicorn's settings apply where they mean the same here. Further options come from `Worker.options`, and with
precedence over those from the environment, as FLOWSERVE_WS_MAX_SIZE=1MiB.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
import traceback
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from gunicorn.workers import base

from flowserve.config import Config
from flowserve.config.config import OPTIONS
from flowserve.config.environment import environment_warnings
from flowserve.config.file import from_environment
from flowserve.config.from_uvicorn import FOREIGN
from flowserve.errors import ConfigError, FlowserveError
from flowserve.logs.loggers import TRACE, access, logger
from flowserve.logs.setup import set_up_logging
from flowserve.runtime.event_loop import run_until_done
from flowserve.runtime.signals import handling
from flowserve.runtime.startup_errors import explain
from flowserve.server.process import owning_process
from flowserve.server.server import Server
from flowserve.server.shutdown import graceful_timeout
from flowserve.topics.hub.open import ALONE

_SETTINGS = {
    "backlog": "backlog",
    "keepalive": "timeout_keep_alive",
    "limit_request_fields": "h1_max_header_count",
    "loglevel": "log_level",
    "certfile": "ssl_certfile",
    "keyfile": "ssl_keyfile",
    "ca_certs": "ssl_ca_certs",
    "cert_reqs": "ssl_cert_reqs",
    "ciphers": "ssl_ciphers",
    "root_path": "root_path",
    "asgi_loop": "loop",
    "asgi_lifespan": "lifespan",
    "websocket_max_message_size": "ws_max_size",
}
"""gunicorn's settings and the flowserve options that they set. Not every release of gunicorn has all of them."""

_UNLIMITED = {"limit_request_fields": 32768, "websocket_max_message_size": sys.maxsize}
"""The value for a setting of 0 where that means no limit."""

_UNUSED_OPTIONS = {
    **dict.fromkeys(("host", "port", "uds", "fd", "bind"), "gunicorn listens; use its --bind"),
    "backlog": "gunicorn listens; use its --backlog",
    "workers": "gunicorn starts the workers; use its --workers",
    "timeout_worker_healthcheck": "gunicorn watches the workers; use its --timeout",
    "timeout_graceful_shutdown": "gunicorn ends the workers; use its --graceful-timeout",
    "shutdown_delay": "gunicorn ends workers alike when it stops and when it reloads; let a preStop hook wait",
    "pid_file": "use gunicorn's --pid",
    "app_dir": "use gunicorn's --chdir or --pythonpath",
    "env_file": "gunicorn loads the application; use its --env",
    **dict.fromkeys(
        ("reload", "reload_dirs", "reload_includes", "reload_excludes", "reload_delay"), "use gunicorn's --reload"
    ),
    "metrics": "only `flowserve --workers` adds up the metrics of all workers",
}
"""Options that have no effect here, and what to do instead."""

_UNUSED_SETTINGS = {
    "limit_request_line": "use FLOWSERVE_H1_MAX_HEADER_SIZE, for the whole head of a request",
    "limit_request_field_size": "use FLOWSERVE_H1_MAX_HEADER_SIZE, for the whole head of a request",
    "access_log_format": "use FLOWSERVE_ACCESS_LOG_FORMAT",
    "secure_scheme_headers": "X-Forwarded-Proto and Forwarded are understood",
    "threads": "it is for WSGI applications (FLOWSERVE_INTERFACE=wsgi); one event loop serves all others",
    "protocol": "flowserve speaks HTTP only",
    "http_protocols": "flowserve speaks HTTP/1.1 only",
}
"""gunicorn's settings that have no effect with this worker class but with others, and what to do instead."""

_PYTHON_ONLY = frozenset(("ssl_context_factory", "callback_notify", "timeout_notify"))
"""Keywords of `Config` that are no options."""

_MARGIN = 1.0
"""Seconds before gunicorn kills a worker by which the worker's shutdown has ended."""
_QUICK_TIMEOUT = 1.0
"""Seconds that connections get when the end is not graceful."""
_MAX_NOTIFY_INTERVAL = 1.0
"""Most seconds between two calls of notify(), gunicorn's heartbeat."""


class Worker(base.Worker):  # type: ignore[misc]
    """Serves gunicorn's application with flowserve. Subclass it to set options in code:

        class MyWorker(flowserve.gunicorn.Worker):
            options = {"ws_max_size": "1MiB", "health_path": "/health"}

    SIGTERM, and a limit such as --max-requests, end it gracefully within --graceful-timeout: WebSockets are closed with
    1012, requests in progress complete. SIGINT, SIGQUIT and the death of gunicorn end it within a second or two. An
    application that can't be served stops gunicorn with its status 3, or 4 where gunicorn itself can't find it.
    """

    options: ClassVar[dict[str, Any]] = {}
    """Options of `flowserve.Config` by name; those in whose place gunicorn has its own settings have no effect."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Called by gunicorn before the first worker: warn of options and settings that have no effect."""
        for line in environment_warnings(os.environ, ()):
            log.warning("%s", line)
        for name in cls.options.keys() & FOREIGN.keys():
            if warning := FOREIGN[name].warning(cls.options[name], name):
                log.warning("%s.options: %s", cls.__name__, warning)
        if hasattr(cls, "CONFIG_KWARGS"):  # of uvicorn's worker class
            log.warning("%s.CONFIG_KWARGS is not read; call it options", cls.__name__)
        for name, advice in _UNUSED_OPTIONS.items():
            if os.environ.get(OPTIONS[name].env):
                log.warning("%s has no effect here: %s", OPTIONS[name].env, advice)
            if name in cls.options:
                log.warning("%s.options: %s has no effect here: %s", cls.__name__, name, advice)
        for name, advice in _UNUSED_SETTINGS.items():
            setting = cfg.settings.get(name)
            has_effect = name == "threads" and cls._interface() == "wsgi"
            if setting is not None and _is_set(setting) and not has_effect:
                log.warning("%s has no effect with this worker: %s", _flag_of(setting), advice)

    @classmethod
    def _interface(cls) -> str:
        """Return the configured interface of the application, not validated."""
        return str(os.environ.get(OPTIONS["interface"].env) or cls.options.get("interface", "auto"))

    def load_wsgi(self) -> None:
        """Import the application. What it raises propagates to gunicorn; with --reload it is logged."""
        try:
            self.wsgi = self.app.wsgi()
        except Exception as error:
            if self.reloader is None:
                raise
            self.log.exception("The application could not be loaded")
            self.wsgi = None
            for frame in traceback.extract_tb(error.__traceback__):
                # the module is not in sys.modules, but its file must be watched
                self.reloader.add_extra_file(frame.filename)
            if isinstance(error, SyntaxError) and error.filename is not None:
                self.reloader.add_extra_file(error.filename)

    def run(self) -> None:
        """Serve until a signal, a limit or gunicorn's death ends it."""
        self.booted = False  # until the application has started, a failure stops gunicorn
        if self.wsgi is None:
            return self._wait_for_change()
        try:
            config = self._config()
            self._set_up_logs(config)
            server = Server(config)
            with owning_process(server) as loop:
                run_until_done(loop, self._serve(server))
        except FlowserveError as error:
            failure = explain(error, "the application")
            if failure.details:
                self.log.error("%s", failure.details)
            self.log.error("%s%s", failure.line, _translation(failure.line, self.cfg))
            if self.reloader is None:
                # The exit status is all that gunicorn learns from a worker.
                raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from None
            self._wait_for_change()

    # Options

    def _config(self) -> Config:
        """Return the configuration: gunicorn's settings, overridden by `options`, overridden by the environment. Raises
        ConfigError."""
        if unknown := sorted(self.options.keys() - OPTIONS.keys() - FOREIGN.keys() - _PYTHON_ONLY):
            raise ConfigError(f"{type(self).__name__}.options: there is no option {unknown[0]!r}")
        options = {name: value for name, value in self.options.items() if name not in FOREIGN or FOREIGN[name].option}
        variables = from_environment()
        given = {**options, **{n: OPTIONS[n].convert(each.value, each.where) for n, each in variables.items()}}
        values = self._settings() | {name: value for name, value in given.items() if name not in _UNUSED_OPTIONS}
        if self._interface() == "wsgi" and self.cfg.threads > 1:
            values.setdefault("wsgi_threads", self.cfg.threads)
        drain = OPTIONS["timeout_drain"].convert(values.get("timeout_drain", 0))
        values |= self._shutdown_timeouts(drain)
        return Config(self.wsgi, **values | {"_by_flag": True})  # see _translation()

    def _settings(self) -> dict[str, Any]:
        """Return gunicorn's settings as options. Raises ConfigError that names gunicorn's setting."""
        cfg, values = self.cfg, {}
        for name, option in _SETTINGS.items():
            setting = cfg.settings.get(name)
            if setting is not None and setting.get() not in (None, ""):
                value = setting.get() or _UNLIMITED.get(name, setting.get())
                values[option] = OPTIONS[option].convert(value, f"gunicorn's {_flag_of(setting)}")
        values["access_log"] = bool(getattr(self.log, "access_log_enabled", cfg.accesslog))
        values["forwarded_allow_ips"] = (*cfg.forwarded_allow_ips, "unix")  # gunicorn always trusts UNIX sockets
        if cfg.proxy_protocol not in (False, "off"):
            if set(cfg.proxy_allow_ips) != set(cfg.forwarded_allow_ips):
                raise ConfigError("gunicorn's --proxy-allow-from and --forwarded-allow-ips must be the same here")
            values["proxy_protocol"] = True
        if cfg.workers > 1:
            values["topics_url"] = ALONE
        if cfg.max_requests > 0:
            values["limit_max_requests"] = self.max_requests  # gunicorn has added the jitter
        hook = cfg.settings.get("ssl_context")
        if cfg.is_ssl and hook is not None and _is_set(hook):
            values["ssl_context_factory"] = lambda _, default: cfg.ssl_context(cfg, default)
        return values

    def _shutdown_timeouts(self, drain: float) -> dict[str, float]:
        """Return the timeouts of the shutdown: gunicorn kills a worker after --graceful-timeout. Raises ConfigError if
        `drain` takes longer."""
        limit = float(self.cfg.graceful_timeout)
        if self.reloader is not None:  # a developer who has saved a file waits for the new code
            return {"timeout_drain": 0.0, "timeout_graceful_shutdown": min(limit, _QUICK_TIMEOUT)}
        left = limit - min(_MARGIN, limit / 10) - drain
        if left < 0:
            raise ConfigError(
                f"FLOWSERVE_TIMEOUT_DRAIN: gunicorn kills workers {limit:g}s after it told them to end;"
                " make it shorter than that, or raise gunicorn's --graceful-timeout"
            )
        return {"timeout_graceful_shutdown": graceful_timeout(left)}

    def _set_up_logs(self, config: Config) -> None:
        """Log to gunicorn's handlers, unless flowserve's own options configure logging."""
        if config.log_config != "" or config.log_format != "human" or config.access_log_format is not None:
            set_up_logging(config)
            return
        level = TRACE if config.log_level == "trace" else config.log_level.upper()
        # as with gunicorn's own workers, access lines don't depend on --log-level
        for ours, theirs, lowest in (
            (logger, self.log.error_log, level),
            (access, self.log.access_log, "INFO"),
        ):
            ours.handlers[:] = theirs.handlers or self.log.error_log.handlers
            ours.propagate = theirs.propagate
            ours.setLevel(lowest)

    # Serving

    async def _serve(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        stop = _Stop(self, server)
        starting = loop.create_task(server.startup([getattr(sock, "sock", sock) for sock in self.sockets]))
        # let startup() begin; until then gunicorn's own handlers note a signal, which _notify_gunicorn() sees
        await asyncio.sleep(0)
        notifying = loop.create_task(self._notify_gunicorn(stop))
        stopped = loop.create_task(stop.requested.wait())
        ends = dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT), server.handle_exit)
        with handling({signal.SIGUSR1: lambda _: self.log.reopen_files()}, ends):
            try:
                await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if starting.done():  # otherwise it is slow and is not waited for
                    await starting
                    self.booted = True
                    await stopped
                    await server.shutdown()
                # A further signal must not kill a process that is ending by itself.
                signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))
            finally:
                for task in (starting, stopped, notifying):
                    task.cancel()
                await asyncio.wait({starting, stopped, notifying}, timeout=_QUICK_TIMEOUT)

    async def _notify_gunicorn(self, stop: _Stop) -> None:
        """Send gunicorn the heartbeat of the event loop, and stop when gunicorn has died or its handlers have noted a
        signal."""
        seconds = min(_MAX_NOTIFY_INTERVAL, self.timeout / 2 or _MAX_NOTIFY_INTERVAL)
        while True:
            self.notify()
            if self.ppid != os.getppid():
                self.log.warning("gunicorn is gone; worker %s stops", self.pid)
                stop.request(quick=True)
                return
            if not self.alive:
                stop.request()
            await asyncio.sleep(seconds)

    def _wait_for_change(self) -> None:
        """With --reload: wait until the reloader ends this worker."""
        self.log.info("Waiting for a file to change")
        self.init_signals()  # again, as the event loop has replaced them
        while self.alive and self.ppid == os.getppid():
            self.notify()
            time.sleep(0.1)


class _Stop:
    """Stops the server of a worker after a signal, or when a limit such as --max-requests is reached."""

    def __init__(self, worker: Worker, server: Server) -> None:
        self.requested = asyncio.Event()
        """Set once the server is to shut down."""
        self._worker = worker
        self._server = server
        server.worn, server.signalled = self._on_worn, self._on_signal

    def request(self, quick: bool = False) -> None:
        """Let the server shut down, within _QUICK_TIMEOUT if `quick`."""
        self._worker.alive = False
        self._server.should_exit = True
        self.requested.set()
        if quick:
            asyncio.get_running_loop().call_later(_QUICK_TIMEOUT, self._server.cut)

    def _on_signal(self, number: int) -> None:
        # gunicorn may repeat SIGTERM while a worker drains: that must not cut the drain short.
        quick = number != signal.SIGTERM
        if quick and self._worker.alive:
            self._worker.cfg.worker_int(self._worker)
        self.request(quick)

    def _on_worn(self, reason: str) -> None:
        self._worker.log.info("Worker restarting after %s (pid:%s)", reason, self._worker.pid)
        self.request()


def _is_set(setting: Any) -> bool:
    """Whether a setting of gunicorn has a value other than its default, compared after validation."""
    default_setting = type(setting)()  # has the default, passed through the same validator
    return bool(setting.get() != default_setting.get())


def _flag_of(setting: Any) -> str:
    """Return a setting of gunicorn as users write it: its flag, or its name."""
    return str(setting.cli[-1] if setting.cli else setting.name)


def _translation(message: str, cfg: Any) -> str:
    """Return a remark with the names that the flags in `message` have under gunicorn, or an empty string."""
    options = {each.flag: each for each in OPTIONS.values()}
    settings = {option: cfg.settings[name] for name, option in _SETTINGS.items() if name in cfg.settings}
    names = []
    for flag in dict.fromkeys(re.findall(r"--[a-z0-9-]+", message)):
        if flag in options:
            name = options[flag].name
            here = f"gunicorn's {_flag_of(settings[name])}" if name in settings else options[flag].env
            names.append(f"{flag} is {here}")
    return f" (here {', '.join(names)})" if names else ""
