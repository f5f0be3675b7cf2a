"""The command `flowserve APP`.

Exit status: 0 after a clean shutdown, 1 if it cannot start, 2 for wrong usage or a wrong value, 3 if the application's
lifespan startup failed, 130 if interrupted before the server had started.
"""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from flowserve.config import Config
from flowserve.config.config import OPTIONS
from flowserve.config.exposure import exposure_warnings
from flowserve.config.file import APP, ConfigFile, Given, as_file, find_file, from_environment
from flowserve.config.option import Option
from flowserve.errors import ConfigError, FlowserveError
from flowserve.logs.setup import set_up_logging
from flowserve.runtime.exit import guard
from flowserve.runtime.startup_errors import STARTUP_FAILED, explain

_INTERRUPTED = 130
_STDOUT = 1

_SUBCOMMANDS = {
    "connect": ("flowserve.commands.connect.command", "talk", "Talk to a WebSocket server."),
    "bench": ("flowserve.commands.bench.command", "bench", "Put a WebSocket echo server under load."),
    "top": ("flowserve.commands.top", "top", "Watch a running server in the terminal."),
}
"""Other commands, by the word that stands in place of APP, which always contains a colon. Each has the module and name
of a click command, and a help text."""

_ALTERNATIVES = (
    ({"host", "port"}, {"uds"}, {"fd"}, {"bind"}),
    ({"reload"}, {"workers"}),
    ({"log_config"}, {"log_format", "access_log_format"}),
)
"""Groups of mutually exclusive sets of options. An option of one set that a source chooses overrides those of the other
sets in sources of lower precedence, so that `flowserve --reload` works with a file that has `workers = 4`."""

_NO_BREAK = "\xa0"  # keeps a default on one line when the help is wrapped

_HELP = """Serve APP, an ASGI application named as module:attribute, over HTTP/1.1 and WebSocket.

\b
flowserve main:app                  on http://127.0.0.1:8000
flowserve main:app --reload         and anew whenever a file changes
flowserve main:app --host 0.0.0.0   for other machines too
flowserve main:app --workers auto   in as many processes as there are CPUs
"""

_EPILOG = """Sizes are bytes, or take a unit: 64kB, 16MiB. Durations are seconds, or take a unit: 500ms, 30s, 2m, 1h.

Every option can come from the environment too: FLOWSERVE_WS_MAX_SIZE=1MiB is --ws-max-size 1MiB,
FLOWSERVE_ACCESS_LOG=off is --no-access-log, FLOWSERVE_APP is APP; and from a file: in flowserve.toml, or under
[tool.flowserve] in pyproject.toml, ws-max-size = "1MiB". The command line goes before the environment, that before the
file.
"""


class CannotStart(click.ClickException):
    """Ends the command with a one-line error message and `exit_code`."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        with suppress(OSError):  # the exit status still tells that it failed
            click.echo(f"flowserve: error: {self.format_message()}", file=file, err=file is None)


class WrongUsage(CannotStart):
    """Wrong usage or a wrong value."""

    exit_code = 2


class FailedStartup(CannotStart):
    """The application's lifespan startup failed."""

    exit_code = 3


class FlowserveCommand(click.Command):
    """A click command whose --help lists `OPTIONS` by group, and whose errors are one line."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command. If the output cannot be written, it ends with a one-line error too."""
        _open_standard_streams()
        try:
            return super().main(*args, **options)
        except OSError as error:
            failure = CannotStart(f"the output can't be written: {error.strerror or error}")
            failure.show()
            os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # Python flushes the rest of the output at exit
            sys.exit(failure.exit_code)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and args[0] in _SUBCOMMANDS:
            _run_subcommand(args[0], args[1:])
        return super().make_context(info_name, args, parent, **extra)

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
        groups["Other"] = [record for param in self.get_params(ctx) if (record := _other_help_record(param, ctx))]
        groups["Other commands"] = [(f"flowserve {name}", text) for name, (_, _, text) in _SUBCOMMANDS.items()]
        # one width for all groups, so that the help texts are aligned
        widest = 30 if formatter.width < 100 else 40
        width = min(widest, max(len(left) for rows in groups.values() for left, _ in rows))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl([(left.ljust(width), right) for left, right in rows], widest)


def _open_standard_streams() -> None:
    """Open the null device for standard streams that are closed; otherwise sockets would get their descriptors."""
    for number, name, mode in ((0, "stdin", "r"), (_STDOUT, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode))


def _run_subcommand(name: str, args: list[str]) -> NoReturn:
    """Run one of `_SUBCOMMANDS`, and exit; its errors are one line too."""
    module, attribute, _ = _SUBCOMMANDS[name]
    failure: CannotStart
    try:
        command = getattr(importlib.import_module(module), attribute)
        status = command.main(args, prog_name=f"flowserve {name}", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.UsageError as error:
        failure = WrongUsage(f"{error.format_message()} (see flowserve {name} --help)")
    except ConfigError as error:
        failure = WrongUsage(str(error))
    except FlowserveError as error:
        failure = CannotStart(str(error))
    except (KeyboardInterrupt, click.Abort):
        sys.exit(_INTERRUPTED)
    failure.show()
    sys.exit(failure.exit_code)


def _other_help_record(param: click.Parameter, ctx: click.Context) -> tuple[str, str] | None:
    return None if param.name in OPTIONS or isinstance(param, click.Argument) else param.get_help_record(ctx)


def _help_record(option: Option) -> tuple[str, str]:
    left = f"--[no-]{option.word}" if option.kind.switch else f"{option.flag} {option.kind.metavar}"
    default = option.kind.show(option.default)
    return left, f"{option.help} [default:{_NO_BREAK}{default}]" if default else option.help


def _click_option(option: Option) -> click.Option:
    """Make the click option. Its values stay text: `Option.convert` parses those of all sources in the same way."""
    if option.kind.switch:
        return click.Option([f"{option.flag}/--no-{option.word}", option.name], default=None)
    return click.Option([option.flag, option.name], multiple=option.kind.repeat)


def _merge_sources(ctx: click.Context, command_line: Mapping[str, Any], file: ConfigFile | None) -> dict[str, Given]:
    """Return the options that were given; the command line precedes the environment, which precedes the file."""
    sources = (
        {
            name: Given(command_line[name], "command line")
            for name in OPTIONS
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        },
        from_environment(),
        file.given() if file else {},
    )
    merged: dict[str, Given] = {}
    for source in sources:
        excluded = _excluded(merged)
        for name, given in source.items():
            if name not in excluded:
                merged.setdefault(name, given)
    return merged


def _excluded(given: Mapping[str, Given]) -> set[str]:
    """Return the names of the options that the chosen ones override."""
    excluded: set[str] = set()
    for sets in _ALTERNATIVES:
        chosen = next(
            (each for each in sets if any(name in given and _is_choice(name, given[name]) for name in each)), None
        )
        if chosen is not None:
            excluded.update(*(each for each in sets if each is not chosen))
    return excluded


def _is_choice(name: str, given: Given) -> bool:
    """Whether the value overrides alternatives: that of --host or --port always does, a default such as --no-reload
    not."""
    return name in ("host", "port") or OPTIONS[name].convert(given.value, given.where) != OPTIONS[name].default


def _find_app(ctx: click.Context, app: str | None, file: ConfigFile | None) -> Given | None:
    if app:
        source = ctx.get_parameter_source("app")
        return Given(app, "command line" if source is ParameterSource.COMMANDLINE else "environment FLOWSERVE_APP")
    if file is not None and APP in file.values:
        return Given(file.values[APP], file.name)
    return None


def _config_file(ctx: click.Context, path: str | None) -> ConfigFile | None:
    source = ctx.get_parameter_source("config_file")
    return find_file(path, "--config" if source is ParameterSource.COMMANDLINE else "FLOWSERVE_CONFIG")


def _version() -> str:
    from flowserve.compiled import deflate_name, is_compiled
    from flowserve.version import __version__

    speed = "compiled" if is_compiled() else "pure Python"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    libraries = f"{_installed('uvloop')}, {_installed('httptools')}, {deflate_name()}"
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


def _serve(app: str | None, config_file: str | None, print_config: bool, **command_line: Any) -> None:
    ctx = click.get_current_context()
    try:
        file = _config_file(ctx, config_file)
        app_given = _find_app(ctx, app, file)
        if app_given is None and not print_config:
            raise WrongUsage("no application is named; write module:attribute, e.g. flowserve myapp:app")
        given = _merge_sources(ctx, command_line, file)
        values = {name: OPTIONS[name].convert(each.value, each.where) for name, each in given.items()}
        config = Config(app_given.value if app_given else "", **values)
        if print_config:
            click.echo(as_file(config, given | ({APP: app_given} if app_given else {})))
            for warning in exposure_warnings(config, given):
                click.echo(f"flowserve: warning: {warning}", err=True)
            return
        set_up_logging(config)
    except ConfigError as error:
        raise WrongUsage(str(error)) from None
    _run(ctx, config)


def _run(ctx: click.Context, config: Config) -> None:
    try:
        from flowserve.supervisor import run_config

        run_config(config)
        if guard.has_leftover_threads:  # from now on a signal ends the process silently
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        ctx.exit(_INTERRUPTED)
    except Exception as error:
        failure = explain(error, str(config.app))
        guard.status = failure.status
        if failure.details:
            click.echo(failure.details, err=True)
        raise (FailedStartup if failure.status == STARTUP_FAILED else CannotStart)(failure.line) from None


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
            ["--config", "config_file"],
            metavar="FILE",
            envvar="FLOWSERVE_CONFIG",
            help="Read options from this file; by default from flowserve.toml, or else from [tool.flowserve] in"
            " pyproject.toml, in the current folder.",
        ),
        click.Option(
            ["--print-config"],
            is_flag=True,
            help="Show every option, its value and where that comes from, as a flowserve.toml, warn of what is open to"
            " others, and exit.",
        ),
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
