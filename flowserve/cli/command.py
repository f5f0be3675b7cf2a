"""The commands `flowserve APP` and `flowserve dev APP`.

Exit status: 0 after a clean shutdown, 1 if it cannot start, 2 for wrong usage or a wrong value, 3 if the application's
lifespan startup failed, 130 if interrupted before the server had started.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from flowserve.cli import completion
from flowserve.cli.discovery import Found, find_application
from flowserve.cli.failures import CannotStart, FailedStartup, WrongUsage, say
from flowserve.cli.help import ABOUT, ABOUT_APP, EXAMPLES, help_text
from flowserve.cli.own_options import OWN_OPTIONS
from flowserve.cli.subcommands import SUBCOMMANDS, load
from flowserve.commands.completions import values_of
from flowserve.config import Config
from flowserve.config.config import OPTIONS
from flowserve.config.env_file import environment_with
from flowserve.config.environment import environment_warnings
from flowserve.config.exposure import exposure_warnings
from flowserve.config.file import (
    APP,
    ConfigFile,
    Given,
    as_file,
    defaults_from_environment,
    find_file,
    from_environment,
    without_foreign,
)
from flowserve.config.from_uvicorn import FOREIGN, ForeignOption
from flowserve.config.option import Option
from flowserve.errors import ConfigError, FlowserveError
from flowserve.logs.loggers import logger
from flowserve.logs.setup import set_up_logging
from flowserve.runtime.exit import guard
from flowserve.runtime.standard_streams import open_standard_streams
from flowserve.runtime.startup_errors import INTERRUPTED, STARTUP_FAILED, explain

_STDOUT = 1

_ALTERNATIVES = (
    ({"host", "port"}, {"uds"}, {"fd"}, {"bind"}),
    ({"reload"}, {"workers"}),
    ({"log_config"}, {"log_format", "access_log_format"}),
)
"""Groups of mutually exclusive sets of options. An option of one set that a source chooses overrides those of the other
sets in sources of lower precedence, so that `flowserve --reload` works with a file that has `workers = 4`."""

_DEV = {
    "reload": True,
    "host": "127.0.0.1",
    "log_level": "debug",
    "timeout_drain": 0.0,
    "timeout_graceful_shutdown": 5.0,
}
"""The options that `flowserve dev` stands for, as if they stood on the command line; those that do go before them. The
last two keep what a file says of the server in production from holding up each reload."""

_EXAMPLES = "\n".join(f"{line:<35} {text}" for line, text in EXAMPLES)
_HELP = f"""{ABOUT}

\b
{_EXAMPLES}

{ABOUT_APP}
"""
_DEV_HELP = f"""Serve APP while you write it: start anew whenever a file changes, and log more.

It stands for --reload --log-level debug --host 127.0.0.1 --timeout-drain 0 --timeout-graceful-shutdown 5s on the
command line, which go before what the environment and the configuration file say. Options that you give go before
these.

{ABOUT_APP}
"""


class FlowserveCommand(click.Command):
    """A click command that takes `OPTIONS`, and whose errors are one line."""

    presets: Mapping[str, Any] = {}
    """Values of options that go before the environment and the file."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command. If the output cannot be written, it ends with a one-line error too."""
        open_standard_streams()
        try:
            if instruction := os.environ.get(completion.VARIABLE):
                sys.exit(completion.respond(self, instruction))
            return super().main(*args, **options)
        except OSError as error:
            failure = CannotStart(f"the output can't be written: {error.strerror or error}")
            failure.show()
            os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # Python flushes the rest of the output at exit
            sys.exit(failure.exit_code)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if self is main and args and args[0] in SUBCOMMANDS:
            _run_subcommand(args[0], args[1:])
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if isinstance(error, click.NoSuchOption) and error.possibilities:  # without options that have no effect
                hidden = {foreign.flag for foreign in FOREIGN.values()}
                suggested = [each for each in error.possibilities if each not in hidden]
                error = click.NoSuchOption(error.option_name, possibilities=suggested, ctx=ctx)
            raise WrongUsage(f"{error.format_message()} (see {ctx.command_path} --help)") from None

    def get_help(self, ctx: click.Context) -> str:
        return help_text(ctx)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] [APP]")
        if self is main:
            formatter.write_usage(ctx.command_path, "COMMAND ...", " " * len("Usage: "))


def _run_subcommand(name: str, args: list[str]) -> NoReturn:
    """Run one of `SUBCOMMANDS`, and exit; its errors are one line too."""
    failure: CannotStart
    try:
        status = load(name).main(args, prog_name=f"flowserve {name}", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.UsageError as error:
        failure = WrongUsage(f"{error.format_message()} (see flowserve {name} --help)")
    except ConfigError as error:
        failure = WrongUsage(str(error))
    except FlowserveError as error:
        failure = CannotStart(str(error))
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    failure.show()
    sys.exit(failure.exit_code)


def _click_option(option: Option | ForeignOption) -> click.Option:
    """Make the click option. Its values stay text: `Option.convert` parses those of all sources in the same way."""
    if isinstance(option, ForeignOption):
        return click.Option([option.flag, option.name], is_flag=option.kind.switch, default=None, hidden=True)
    if option.kind.switch:
        return click.Option([f"{option.flag}/--no-{option.word}", option.name], default=None, help=option.help)
    return click.Option(
        [option.flag, option.name],
        multiple=option.kind.repeat,
        help=option.help,
        shell_complete=values_of(option.kind),
    )


def _collect(
    ctx: click.Context, command_line: Mapping[str, Any], file: ConfigFile | None
) -> tuple[dict[str, Given], list[str]]:
    """Return the options that were given, also in the environment that --env-file adds to, and warnings."""
    given = _merge_sources(ctx, command_line, file, os.environ)
    if "env_file" in given:
        path = OPTIONS["env_file"].convert(given["env_file"].value, given["env_file"].where)
        given = _merge_sources(ctx, command_line, file, environment_with(path))
    lines = list(environment_warnings(os.environ, {*given, APP} if ctx.params.get(APP) else given))
    given, foreign = without_foreign(given)
    return given, lines + foreign


def _merge_sources(
    ctx: click.Context, command_line: Mapping[str, Any], file: ConfigFile | None, environment: Mapping[str, str]
) -> dict[str, Given]:
    """Return the options that were given; the command line precedes the environment, which precedes the file, and that
    what sets defaults only."""
    sources = (
        {
            name: Given(command_line[name], "command line")
            for name in (*OPTIONS, *FOREIGN)
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        },
        {name: Given(value, ctx.command_path) for name, value in _presets(ctx).items()},
        from_environment(environment),
        file.given() if file else {},
        defaults_from_environment(environment),
    )
    merged: dict[str, Given] = {}
    for source in sources:
        excluded = _excluded(merged)
        for name, given in source.items():
            if name not in excluded:
                merged.setdefault(name, given)
    return merged


def _presets(ctx: click.Context) -> Mapping[str, Any]:
    assert isinstance(ctx.command, FlowserveCommand)
    return ctx.command.presets


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


def _serve(app: str | None, config_file: str | None, print_config: bool, **command_line: Any) -> None:
    ctx = click.get_current_context()
    try:
        file = _config_file(ctx, config_file)
        given, warnings = _collect(ctx, command_line, file)
        app_given, found = _locate(_find_app(ctx, app, file), given, is_needed=not print_config)
        values = {name: OPTIONS[name].convert(each.value, each.where) for name, each in given.items()}
        config = Config(app_given.value if app_given else "", **values | {"_by_flag": True})
        if print_config:
            click.echo(as_file(config, given | ({APP: app_given} if app_given else {})))
            warnings += exposure_warnings(config, given)
        for warning in warnings:
            say(f"flowserve: warning: {warning}")
        if print_config:
            return
        set_up_logging(config)
    except ConfigError as error:
        raise WrongUsage(str(error)) from None
    if found is not None:
        logger.info("Serving %s", found)
    _run(ctx, config)


def _locate(app: Given | None, given: dict[str, Given], *, is_needed: bool) -> tuple[Given | None, Found | None]:
    """Return APP as module:attribute; if that had to be found, also what was found. Then `given` gets the options that
    importing it takes. Raises ConfigError if nothing is found, for no APP only if one `is_needed`."""
    said = {
        name: OPTIONS[name].convert(given[name].value, given[name].where)
        for name in ("app_dir", "factory")
        if name in given
    }
    try:
        found = find_application(app.value if app else None, said.get("app_dir"), said.get("factory"))
    except ConfigError:
        if app is None and not is_needed:
            return None, None
        raise
    if found is None:
        return app, None
    origin = f"{app.origin}: {app.value}" if app else f"found in {found.file}"
    for name in ("app_dir", "factory"):
        if getattr(found, name) != said.get(name, OPTIONS[name].default):
            given[name] = Given(getattr(found, name), origin)
    return Given(found.app, origin), found


def _run(ctx: click.Context, config: Config) -> None:
    try:
        from flowserve.supervisor import run_config

        run_config(config)
        if guard.has_leftover_threads:  # from now on a signal ends the process silently
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)
    except Exception as error:
        failure = explain(error, str(config.app))
        guard.status = failure.status
        if failure.details:
            say(failure.details)
        raise (FailedStartup if failure.status == STARTUP_FAILED else CannotStart)(failure.line) from None


_PARAMS = [
    click.Argument(
        ["app"], required=False, metavar="[APP]", envvar="FLOWSERVE_APP", shell_complete=completion.applications
    ),
    *map(_click_option, OPTIONS.values()),
    *map(_click_option, FOREIGN.values()),
    *OWN_OPTIONS,
]


def _make_command(name: str, about: str, presets: Mapping[str, Any]) -> FlowserveCommand:
    command = FlowserveCommand(
        name,
        callback=_serve,
        help=about,
        add_help_option=False,
        context_settings={"max_content_width": 110},
        params=list(_PARAMS),
    )
    command.presets = presets
    return command


main = _make_command("flowserve", _HELP, {})
dev = _make_command("dev", _DEV_HELP, _DEV)
