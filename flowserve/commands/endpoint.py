"""The WebSocket server that `flowserve connect` and `flowserve bench` connect to: the options that say how, and the
messages for errors."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import click

from flowserve.client.connect import connect
from flowserve.client.proxies import find_proxy
from flowserve.client.tls import client_context, make_context
from flowserve.client.uri import URI, parse_uri
from flowserve.commands.completions import files, values_of
from flowserve.config.config import OPTIONS
from flowserve.config.kinds import Kind, duration, header_list, optional, size
from flowserve.errors import ConfigError, FlowserveError, HandshakeError, InvalidURI, ProxyError
from flowserve.library.websocket import WebSocket

INTERRUPTED = 130
"""The exit status after Ctrl-C."""

_MAX_SHOWN_BODY = 200
"""Characters of the body of a refusal that are shown."""
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that control a terminal, except line feeds and tabs."""
_HINTS = {
    401: "; say who you are with -H 'Authorization: ...'",
    403: "; it may want an --origin, or a header (-H)",
    404: "; is the path right?",
}


class Unreachable(FlowserveError):
    """The WebSocket could not be opened; the message says why."""


@dataclass(frozen=True)
class Endpoint:
    """A WebSocket server to connect to."""

    url: str
    options: dict[str, Any]
    """The keyword arguments for `connect()`."""

    @property
    def uri(self) -> URI:
        """The parsed URL, whose text has no secrets."""
        return parse_uri(self.url)

    async def open(self) -> WebSocket:
        """Open a WebSocket. Raises FlowserveError with a message for the user."""
        try:
            return await connect(self.url, **self.options)
        except HandshakeError as error:
            raise Unreachable(self._describe_refusal(error)) from None
        except OSError as error:
            raise Unreachable(self._describe_error(error)) from None

    def _describe_refusal(self, error: HandshakeError) -> str:
        if isinstance(error, ProxyError):
            return one_line(str(error))
        if error.status in (0, 101):
            return f"{self.uri}: {one_line(error.detail)}"
        body = one_line(error.body.decode("utf-8", "replace"))
        body = body[:_MAX_SHOWN_BODY] + ("..." if len(body) > _MAX_SHOWN_BODY else "")
        phrase = HTTPStatus(error.status).phrase if error.status in set(HTTPStatus) else ""
        hint = "; is there a WebSocket at all?" if 200 <= error.status < 300 else _HINTS.get(error.status, "")
        return f"{self.uri} answered {f'{error.status} {phrase}'.strip()}{f': {body}' if body else ''}{hint}"

    def _describe_error(self, error: OSError) -> str:
        uri = self.uri
        if isinstance(error, ssl.SSLCertVerificationError):
            way = "name its authority with --ca-file, or use --insecure"
            return f"the certificate of {uri.host} is not trusted: {error.verify_message}; {way}"
        if isinstance(error, ssl.SSLError):
            return f"{uri}: no TLS is to be had: {error.reason or error}; is it ws:// instead of wss://?"
        if isinstance(error, TimeoutError) and error.errno is None:
            return f"{error} (--timeout)"
        place, hint = self._next_hop()
        if isinstance(error, socket.gaierror):
            return f"can't find {place}: {error.strerror}"
        number = error.errno or _number_in(str(error))
        why = os.strerror(number) if number else str(error) or type(error).__name__
        return f"can't connect to {place}: {why}{hint if number in (errno.ECONNREFUSED, errno.ENOENT) else ''}"

    def _next_hop(self) -> tuple[str, str]:
        """Return what is connected to first, a proxy or the server, and a hint for when it refuses the connection."""
        uri, uds, wanted = self.uri, self.options["uds"], self.options["proxy"]
        if uds is not None:
            return f"unix:{uds}", "; is the server running?"
        proxy = find_proxy(wanted, uri.secure, uri.host, uri.port) if wanted is not None else None
        return (str(proxy), "; see --proxy") if proxy is not None else (str(uri), "; is the server running?")


def _number_in(text: str) -> int:
    """Return the errno in the message of asyncio when connecting to all of several addresses has failed, 0 if none."""
    found = re.search(r"\[Errno (\d+)\]", text)
    return int(found[1]) if found else 0


def escape_for_terminal(text: str) -> str:
    """Escape the control characters of a text that a peer sent, so that a terminal shows them and does not obey
    them."""
    return _CONTROL_CHARACTERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Like `escape_for_terminal()`, with all white space replaced by single blanks."""
    return " ".join(escape_for_terminal(text).split())


def parse_with(kind: Kind) -> Callable[[Any, Any, Any], Any]:
    """Return a callback for a click option that parses its value with `kind`, like the options of the server."""

    def read(_ctx: Any, _param: Any, value: Any) -> Any:
        try:
            return kind.parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


def option(flags: Sequence[str], kind: Kind, default: Any, help: str) -> click.Option:
    """Make a click option whose value `kind` parses."""
    shown = kind.show(default)
    text = f"{help} [default: {shown}]" if shown else help
    return click.Option(
        list(flags),
        type=click.UNPROCESSED,
        default=default,
        callback=parse_with(kind),
        metavar=kind.metavar,
        help=text,
        shell_complete=values_of(kind),
    )


def _check_url(_ctx: Any, _param: Any, value: str) -> str:
    try:
        parse_uri(value)
    except InvalidURI as error:
        raise click.BadParameter(f"{error}, e.g. ws://127.0.0.1:8000/") from None
    return value


def url_argument() -> click.Argument:
    """Make the argument URL, a valid WebSocket URI."""
    return click.Argument(["url"], callback=_check_url)


def endpoint_options(*, compression: bool, ping_interval: float | None, timeout_help: str) -> list[click.Option]:
    """Make the options that `make_endpoint()` takes. `compression` and `ping_interval` are their defaults,
    `timeout_help` is the help text of --timeout."""
    headers = parse_with(header_list())
    return [
        click.Option(
            ["-H", "--header", "headers"],
            multiple=True,
            metavar="'NAME: VALUE'",
            callback=lambda ctx, param, value: headers(ctx, param, list(value)),
            help="A header for the request; may be repeated.",
        ),
        click.Option(["--subprotocol"], multiple=True, metavar="NAME", help="Offer this one; may be repeated."),
        click.Option(["--origin"], metavar="ORIGIN", help="Origin header, as browsers send it."),
        click.Option(
            ["--ca-file"],
            metavar="FILE",
            help="Authorities to trust, in PEM, instead of the system's.",
            shell_complete=files,
        ),
        click.Option(["--insecure"], is_flag=True, help="Don't check the server's certificate."),
        click.Option(["--proxy"], metavar="URL", help="HTTP or SOCKS proxy, or none; by default the environment's."),
        click.Option(["--uds"], metavar="PATH", help="Connect to this UNIX domain socket.", shell_complete=files),
        click.Option(
            ["--compression/--no-compression"],
            default=compression,
            help=f"Offer permessage-deflate. [default: {'on' if compression else 'off'}]",
        ),
        option(
            ["--max-size"], optional(size(), "off"), OPTIONS["ws_max_size"].default, "Largest message from the server."
        ),
        option(["--ping-interval"], optional(duration(), "off"), ping_interval, "Time between keepalive pings."),
        option(["--timeout"], duration(), 10.0, timeout_help),
    ]


class EndpointCommand(click.Command):
    """A command with `endpoint_options()`, which --help lists in a section of their own behind those of the command."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = {each.name for each in endpoint_options(compression=False, ping_interval=None, timeout_help="")}
        for title, of_connection in (("Options", False), ("Connection", True)):
            options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
            chosen = [each for each in options if (each.name in names) == of_connection]
            with formatter.section(title):
                formatter.write_dl([record for each in chosen if (record := each.get_help_record(ctx))])


def make_endpoint(url: str, given: Mapping[str, Any]) -> Endpoint:
    """Return the Endpoint for a URL and the values of `endpoint_options()`. Raises click.UsageError for options that do
    not fit together, ConfigError for a file that cannot be read."""
    secure, insecure = parse_uri(url).secure, given["insecure"]
    for flag, value in (("--ca-file", given["ca_file"]), ("--insecure", insecure)):
        if value and not secure:
            raise click.UsageError(f"{flag} is about certificates: it needs a URL that begins with wss://")
    if insecure:
        click.echo("flowserve: warning: --insecure: whoever answers is believed to be the server", err=True)
    options = {
        "additional_headers": given["headers"],
        "subprotocols": given["subprotocol"],
        "origin": given["origin"],
        "proxy": {None: True, "none": None}.get(given["proxy"], given["proxy"]),
        "uds": given["uds"],
        "ssl": _tls(given["ca_file"], insecure) if secure else None,
        "compression": "deflate" if given["compression"] else None,
        "max_size": given["max_size"],
        "ping_interval": given["ping_interval"],
        "open_timeout": given["timeout"],
    }
    return Endpoint(url, options)


def _tls(ca_file: str | None, insecure: bool) -> ssl.SSLContext:
    """Return the TLS context for all connections. Raises ConfigError if `ca_file` cannot be read."""
    try:
        context = make_context(ca_file) if insecure else client_context(ca_file)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"--ca-file: can't read certificates from {ca_file}: {why}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
