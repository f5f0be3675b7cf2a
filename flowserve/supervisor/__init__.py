"""Running the server: in this process, or in several under a supervisor. The entry point of `run()` and of the
command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from flowserve.config import Config
from flowserve.errors import ConfigError
from flowserve.logs.setup import set_up_logging
from flowserve.runtime.exit import interruptible
from flowserve.server.process import serve_alone
from flowserve.supervisor.pidfile import pid_file


def run(app: str | Callable[..., Any], **options: Any) -> None:
    """Serve `app` until a signal ends it, as the command does. `app` is "module:attribute" or the application itself;
    `options` are those of `Config`.

    Raises ConfigError and StartupFailed. With one process it also raises whatever the application's module raises when
    it is imported; with several, or with reload, the worker process prints that traceback, and ConfigError has its last
    line. A signal that arrives before anything is served ends the process as it would without a server.
    """
    config = Config(app, **options)
    set_up_logging(config)
    run_config(config)


def run_config(config: Config) -> None:
    """Serve until a signal ends it: in this process, or in others with --workers or --reload. Raises what `run()`
    raises."""
    with interruptible() as interruption, pid_file(config.pid_file):
        if config.workers == 1 and not config.reload:
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
