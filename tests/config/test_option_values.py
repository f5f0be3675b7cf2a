"""Values at and beyond the ends of every option, from wherever they come: each works, or is refused in one line that
names the option."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import math
import sys
import types

import pytest
from click.testing import CliRunner
from support.helpers import within

from flowserve import Config, Server
from flowserve.cli import main
from flowserve.config.config import OPTIONS
from flowserve.config.file import find_file, from_environment
from flowserve.errors import ConfigError, FlowserveError

NUMBERS = [
    *(-1, 0, 1, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400, -(10**400), 10**5000),
    *(-0.0, 5e-324, 1e-9, 1.5, 1e308, math.inf, -math.inf, math.nan),
]
TEXTS = [
    *("", " ", "-1", "0", "2147483648", "9223372036854775808", "1e400", "nan", "inf", "-inf", "1_0", "\u0663", "+1"),
    *("\0", "a\0b", "/\0", "\n", "a\nb", "/a\r\nb: c", "x: a\nb", "\x1b[2J", "\u2028", "\udc80", "/\udc80", "/\ud800"),
    *("x" * 100_000, "/" + "x" * 100_000, "9" * 5000),
]
OTHERS = [None, True, False, b"x", [], {}, object(), [[]], ["\0"], ["/\udc80"], ["x" * 100_000], [("a", "b\udc80")]]


def check_line(message: str, longest: int = 700) -> None:
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    assert len(message) < longest


def check_refusal(message: str, *named: str) -> None:
    check_line(message)
    assert any(f"{each}: " in message for each in named) or " exclude each other" in message


@functools.cache
def accepted(name: str) -> list[Config]:
    """What the option takes of all these; the refusals are looked at."""
    configs = []
    for value in NUMBERS + TEXTS + OTHERS:
        try:
            configs.append(Config("support.helpers:hello", **{name: value}))
        except ConfigError as error:
            check_refusal(str(error), name)
    return configs


@pytest.mark.parametrize("name", OPTIONS)
def test_keywords(name):
    option = OPTIONS[name]
    for config in accepted(name):
        shown = option.kind.show(getattr(config, name))
        if shown or option.kind.repeat:
            assert getattr(Config("support.helpers:hello", **{name: shown}), name) == pytest.approx(
                getattr(config, name)
            )


@pytest.fixture(scope="module")
def from_toml(tmp_path_factory):
    """What a file gives of all these, as far as TOML can hold them: the same for every option."""
    file = tmp_path_factory.mktemp("files") / "c.toml"
    read = []
    for value in NUMBERS + TEXTS:
        if isinstance(value, str):
            if any("\ud800" <= each <= "\udfff" for each in value):
                continue
            shown = json.dumps(value)
        else:
            shown = str(value) if value != 10**5000 else "1" + "0" * 5000
        file.write_text(f"host = {shown}", "utf-8")
        try:
            (given,) = find_file(str(file)).given().values()  # type: ignore[union-attr]
        except ConfigError as error:  # TOML has no more digits than Python reads
            check_refusal(str(error), str(file))
        else:
            read.append(given.value)
    assert len(read) > 40
    return read


@pytest.mark.parametrize("name", OPTIONS)
def test_a_file(name, tmp_path, from_toml):
    option, file = OPTIONS[name], tmp_path / "c.toml"
    file.write_text(f"{option.word} = 1")
    given = find_file(str(file)).given()  # type: ignore[union-attr]
    assert list(given) == [name]
    for value in from_toml:
        try:
            option.convert(value, given[name].where)
        except ConfigError as error:
            check_refusal(str(error), f"{file}: {option.word}")


@pytest.mark.parametrize("name", OPTIONS)
def test_the_environment(name, monkeypatch):
    option = OPTIONS[name]
    for value in TEXTS:
        if "\0" in value or "\ud800" in value or not value:  # which an environment can't hold, or is not given
            continue
        monkeypatch.setenv(option.env, value)
        given = from_environment()[name]
        try:
            option.convert(given.value, given.where)
        except ConfigError as error:
            check_refusal(str(error), option.env)


@pytest.mark.parametrize("name", [name for name in OPTIONS if not OPTIONS[name].kind.switch])
def test_the_command_line(name, monkeypatch, tmp_path):
    """Through the command itself: status 2 and one line, or a configuration to run with."""
    monkeypatch.chdir(tmp_path)
    ran: list[Config] = []
    monkeypatch.setitem(sys.modules, "flowserve.supervisor", types.SimpleNamespace(run_config=ran.append))
    monkeypatch.setattr("flowserve.cli.command.set_up_logging", lambda config: None)
    option = OPTIONS[name]
    for value in ("", "-1", "2147483648", "9223372036854775808", "1e400", "nan", "/a\nb", "/\udc80", "9" * 5000):
        result = CliRunner().invoke(main, [f"{option.flag}={value}", "a:b"], env={"FLOWSERVE_APP": None})
        if result.exit_code:
            assert result.exit_code == 2
            assert result.output.startswith("flowserve: error: ")
            check_refusal(result.output.removesuffix("\n"), option.flag)
        else:
            assert len(ran) == 1
            ran.clear()


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "host"])  # names ask a name server
async def test_what_is_accepted_can_be_served_with(name, tmp_path, monkeypatch, logs):
    """Or startup says in one line why not: a file that is not there, a descriptor that is none."""
    monkeypatch.chdir(tmp_path)
    for config in accepted(name):
        server = Server(config if name in ("port", "uds", "fd", "bind") else _on_a_free_port(config))
        try:
            await within(server.startup())
        except FlowserveError as error:
            check_line(str(error), longest=9000)
            continue
        try:
            await within(_ask(server))
        finally:
            await within(server.shutdown())
    assert not logs.errors


def _on_a_free_port(config: Config) -> Config:
    return dataclasses.replace(config, port=0)


async def _ask(server: Server) -> None:
    address = server.sockets[0].getsockname()
    if isinstance(address, (str, bytes)):
        reader, writer = await asyncio.open_unix_connection(address)
    else:
        reader, writer = await asyncio.open_connection(*address[:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    try:
        answer = await reader.read()
        assert answer[:9] in (b"HTTP/1.1 ", b"")
    except ConnectionError:
        pass
    finally:
        writer.close()
