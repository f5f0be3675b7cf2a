"""Running the server: in this process, or in several under a supervisor. The entry point of `run()` and of the
command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from flowserve import compiled
from flowserve.config import Config
from flowserve.config.config import ContextFactory
from flowserve.config.foreign_keywords import WrongKeyword
from flowserve.errors import ConfigError
from flowserve.logs.loggers import logger
from flowserve.runtime.event_loop import refuse_running_loop
from flowserve.runtime.exit import guard, interruptible
from flowserve.runtime.standard_streams import open_standard_streams, write_error
from flowserve.runtime.startup_errors import INTERRUPTED, WRONG_USAGE, Failure, explain
from flowserve.server.process import serve_alone
from flowserve.supervisor.pidfile import pid_file

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flowserve.config.keywords import ConfigKeywords


def run(
    app: str | Callable[..., Any],
    *,
    ssl_context_factory: ContextFactory | None = None,
    callback_notify: Callable[[], Awaitable[None]] | None = None,
    timeout_notify: float | str = 30.0,
    **options: Unpack[ConfigKeywords],
) -> None:
    """Serve `app` until a signal ends it, as the command does, and return. `app` is "module:attribute" or the
    application itself; `options` are those of `Config`.

    If that is not possible, one line on stderr says why, and SystemExit is raised with the exit status of the command:
    2 for a wrong keyword or value, 1 if it can't start, 3 if the application's lifespan startup failed, 130 if it was
    interrupted before anything was served; the exception behind it is its `__cause__`. Raises RuntimeError in a running
    event loop, e.g. of a notebook; `await Server(Config(...)).serve()` serves there.
    """
    open_standard_streams()
    refuse_running_loop("flowserve.run()", "await flowserve.Server(flowserve.Config(...)).serve()")
    try:
        config = Config(
            app,
            ssl_context_factory=ssl_context_factory,
            callback_notify=callback_notify,
            timeout_notify=timeout_notify,
            **options,
        )
        config.configure_logging()
    except (ConfigError, WrongKeyword) as error:
        raise _exit(Failure(str(error), WRONG_USAGE)) from error
    try:
        run_config(config)
    except KeyboardInterrupt as error:
        raise SystemExit(INTERRUPTED) from error
    except Exception as error:
        raise _exit(explain(error, str(config.app))) from error


def _exit(failure: Failure) -> SystemExit:
    """Write why the server can't run to stderr, and return what to raise."""
    guard.status = failure.status
    write_error("\n".join(filter(None, (failure.details, f"flowserve: error: {failure.line}"))))
    return SystemExit(failure.status)


def run_config(config: Config) -> None:
    """Serve until a signal ends it: in this process, or in others with --workers or --reload.

    Raises ConfigError and StartupFailed. With one process it also raises whatever the application's module raises when
    it is imported; with several, or with reload, the worker process prints that traceback, and ConfigError has its last
    line. A signal that arrives before anything is served ends the process as it would without a server.
    """
    _warn_if_pure()
    with config._naming(), interruptible() as interruption, pid_file(config.pid_file):
        if config.workers == 1 and not config.reload:
            if not isinstance(config.app, str) and os.environ.get("WEB_CONCURRENCY", "1") not in ("", "1"):
                logger.warning("WEB_CONCURRENCY has no effect: several processes need the name 'module:attribute'")
            serve_alone(config, interruption)
            return
        if os.name != "posix":
            flag = "--reload" if config.reload else "--workers"
            raise ConfigError(f"{flag}: this system's processes can't share sockets; start one, without {flag}")
        if config.reload:
            from flowserve.supervisor.reload import Reloader

            asyncio.run(Reloader(config).run())
        else:
            from flowserve.supervisor.manager import Supervisor

            asyncio.run(Supervisor(config).run())
        interruption.finished = True


def _warn_if_pure() -> None:
    """Log once that the server could do with less CPU time, unless that is known."""
    if not compiled.pure_is_chosen() and not compiled.is_compiled():
        logger.warning(
            "flowserve runs as plain Python, which takes up to seven times the CPU time: it was installed without a C"
            " compiler; install one with Python's headers (on Debian gcc and python3-dev), then flowserve again,"
            " or set FLOWSERVE_PURE=1 if this is meant"
        )
