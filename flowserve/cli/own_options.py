"""The options of the command itself, which are not options of a server: they can't stand in a file."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from flowserve.cli.completion import SHELLS, topics
from flowserve.cli.failures import WrongUsage
from flowserve.cli.help import SHORT, help_text
from flowserve.cli.install_completion import install
from flowserve.commands.completions import files, words
from flowserve.errors import ConfigError


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


def _show_help(ctx: click.Context, _param: click.Parameter, topic: str | None) -> None:
    if topic is None or ctx.resilient_parsing:
        return
    try:
        click.echo(help_text(ctx, topic))
    except ConfigError as error:
        raise WrongUsage(str(error)) from None
    ctx.exit()


def _install_completion(ctx: click.Context, _param: click.Parameter, shell: str | None) -> None:
    if shell is None or ctx.resilient_parsing:
        return
    try:
        click.echo(install(shell))
    except ConfigError as error:
        raise WrongUsage(str(error)) from None
    ctx.exit()


OWN_OPTIONS = [
    click.Option(
        ["--config", "config_file"],
        metavar="FILE",
        envvar="FLOWSERVE_CONFIG",
        help="Read options from this file; by default from flowserve.toml, or else from [tool.flowserve] in"
        " pyproject.toml, in the current folder.",
        shell_complete=files,
    ),
    click.Option(
        ["--print-config"],
        is_flag=True,
        help="Show every option, its value and where that comes from, as a flowserve.toml, warn of what is open to"
        " others, and exit.",
    ),
    click.Option(
        ["--install-completion"],
        is_flag=False,
        flag_value="",
        is_eager=True,
        expose_value=False,
        callback=_install_completion,
        metavar="[SHELL]",
        help=f"Have Tab complete APP, options and values, in this shell or in {', '.join(SHELLS)}.",
        shell_complete=words(*SHELLS),
    ),
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_version,
        help="Show the versions of flowserve and of what it runs on.",
    ),
    click.Option(
        ["-h", "--help", "topic"],
        is_flag=False,
        flag_value=SHORT,
        is_eager=True,
        expose_value=False,
        callback=_show_help,
        metavar="[TOPIC]",
        help="Show this, or more, see below.",
        shell_complete=topics,
    ),
]
