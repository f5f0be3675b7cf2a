"""The command `flowserve APP`. The only module that prints or exits.

Exit status: 0 after a clean shutdown, 1 if it cannot start, 2 for wrong usage or a wrong value, 3 if the application's
lifespan startup failed, 130 if interrupted before there was anything to shut down.
"""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Iterable, Mapping
from importlib import metadata
from types import TracebackType
from typing import Any

import click
from click.core import ParameterSource

from flowserve import logs
from flowserve.config import OPTIONS, Config
from flowserve.errors import ConfigError, FlowserveError, StartupFailed
from flowserve.options import Option

_LOADER = "flowserve.loader"

_INTERRUPTED = 130

_NO_BREAK = "\xa0"  # keeps a default in one piece while the help is wrapped

_HELP = """Serve APP, an ASGI application named as module:attribute, over HTTP/1.1 and WebSocket.

For example: flowserve myapp:app --port 8000
"""

_EPILOG = """Sizes are bytes, or take a unit: 64kB, 16MiB. Durations are seconds, or take a unit: 500ms, 30s, 2m, 1h.

Every option can come from the environment too: FLOWSERVE_WS_MAX_SIZE=1MiB is --ws-max-size 1MiB,
FLOWSERVE_ACCESS_LOG=off is --no-access-log, FLOWSERVE_APP is APP. The command line goes first.
"""


class CannotStart(click.ClickException):
    """Ends the command with one line and `exit_code`."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        click.echo(f"flowserve: error: {self.format_message()}", file=file, err=file is None)


class WrongUsage(CannotStart):
    exit_code = 2


class FailedStartup(CannotStart):
    exit_code = 3


class FlowserveCommand(click.Command):
    """A click command whose --help shows `OPTIONS` in their groups, and whose errors are one line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise WrongUsage(f"{error.format_message()} (see flowserve --help)") from None

    def get_help(self, ctx: click.Context) -> str:
        return super().get_help(ctx).replace(_NO_BREAK, " ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in OPTIONS.values():
            groups.setdefault(option.group, []).append(_help_record(option))
        groups["Other"] = [record for param in self.get_params(ctx) if (record := _own_record(param, ctx))]
        # one width for all, so that the explanations stand in one column
        width = min(30, max(len(left) for rows in groups.values() for left, _ in rows))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl([(left.ljust(width), right) for left, right in rows])


def _own_record(param: click.Parameter, ctx: click.Context) -> tuple[str, str] | None:
    return None if param.name in OPTIONS or isinstance(param, click.Argument) else param.get_help_record(ctx)


def _help_record(option: Option) -> tuple[str, str]:
    left = f"--[no-]{option.word}" if option.kind.switch else f"{option.flag} {option.kind.metavar}"
    default = option.kind.show(option.default)
    return left, f"{option.help} [default:{_NO_BREAK}{default}]" if default else option.help


def _click_option(option: Option) -> click.Option:
    """The values stay text here; `Option.convert` reads them, so that each source of values is read in the same way."""
    if option.kind.switch:
        return click.Option([f"{option.flag}/--no-{option.word}", option.name], default=None)
    return click.Option([option.flag, option.name], multiple=option.kind.repeat)


def _values(ctx: click.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, the command line before the environment; a ConfigError names flag or variable."""
    values = {}
    for name, option in OPTIONS.items():
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            values[name] = option.convert(given[name])
        elif os.environ.get(option.env):
            values[name] = option.convert(os.environ[option.env], option.env)
    return values


def _version() -> str:
    from flowserve import __version__
    from flowserve.speed import compiled, deflate

    speed = "compiled" if compiled() else "pure Python"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    libraries = f"{_installed('uvloop')}, {_installed('httptools')}, {deflate()}"
    return f"flowserve {__version__} ({speed}), {python}, {libraries}"


def _installed(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"no {package}"


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(_version())
        ctx.exit()


def _serve(app: str | None, **given: Any) -> None:
    ctx = click.get_current_context()
    if not app:
        raise WrongUsage("no application is named; write module:attribute, e.g. flowserve myapp:app")
    try:
        config = Config(app, **_values(ctx, given))
    except ConfigError as error:
        raise WrongUsage(str(error)) from None
    logs.setup(config)
    try:
        from flowserve.server.worker import run_config

        run_config(config)
    except StartupFailed as error:
        raise FailedStartup(_show_startup_failed(str(error))) from None
    except FlowserveError as error:
        raise CannotStart(str(error)) from None
    except KeyboardInterrupt:
        ctx.exit(_INTERRUPTED)
    except Exception as error:
        raise CannotStart(_show_raised(error, app)) from None


def _show_startup_failed(message: str) -> str:
    """Print the reason that the application gave if it has several lines; return the one line to say of it."""
    lines = message.strip().splitlines()
    if len(lines) < 2:
        return message
    click.echo("\n".join(lines), err=True)  # a traceback, as Starlette sends it
    return f"application startup failed: {lines[-1].strip()}"


def _show_raised(error: Exception, app: str) -> str:
    """Print the traceback, from APP's first line on if it comes from its import; return what to say of it."""
    inside = _after_loader(error.__traceback__)
    if inside is None:
        traceback.print_exception(error)
        return f"stopped by an unexpected {type(error).__name__}"
    traceback.print_exception(type(error), error, inside[0] if inside else None)
    return f"{app!r} could not be loaded: its code raised {type(error).__name__}"


def _after_loader(trace: TracebackType | None) -> list[TracebackType] | None:
    """The part of a traceback behind the loader: nothing for a syntax error. None if it isn't the loader's."""
    steps = list(_walk(trace))
    modules = [str(step.tb_frame.f_globals.get("__name__")) for step in steps]
    if _LOADER not in modules or modules[-1] == _LOADER:
        return None
    start = modules.index(_LOADER)
    while start < len(steps) and (modules[start] == _LOADER or modules[start].split(".")[0] == "importlib"):
        start += 1
    return steps[start:]


def _walk(trace: TracebackType | None) -> Iterable[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


main = FlowserveCommand(
    "flowserve",
    callback=_serve,
    help=_HELP,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[
        click.Argument(["app"], required=False, metavar="APP", envvar="FLOWSERVE_APP"),
        *map(_click_option, OPTIONS.values()),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the versions of flowserve and of what it runs on.",
        ),
    ],
)
