"""README.md and all pages that it leads to: they say what is true, link to what is there, and their code runs."""

from __future__ import annotations

import ast
import asyncio
import configparser
import json
import re
import shutil
import subprocess
import sys
from typing import Any

import click
import pytest
import yaml
from support.documents import ROOT, anchor, blocks, headings, linked, links, pages, prose, read, section
from support.draining import launched
from support.helpers import within

from flowserve import connect, serve
from flowserve.asgi.websocket import _REFUSAL_REASONS
from flowserve.cli import main
from flowserve.cli.subcommands import SUBCOMMANDS, load
from flowserve.config import Config
from flowserve.config.config import OPTIONS
from flowserve.config.file import find_file
from flowserve.config.from_uvicorn import FOREIGN as UVICORNS
from flowserve.logs import AccessFormatter
from flowserve.logs.access import FIELDS
from flowserve.metrics import FAMILIES

MOST_COLUMNS = 120
LONG = 100
"""Lines from which on a page has a table of contents."""

every_page = pytest.mark.parametrize("page", pages())


def test_readme_is_short():
    assert len(read("README.md").splitlines()) <= 200


@every_page
def test_prose_fits(page):
    """But for a line that is one long link."""
    too_long = [(number, line) for number, line in prose(page) if len(line) > MOST_COLUMNS]
    assert [(number, line) for number, line in too_long if " " in line.strip()[2:]] == []


@every_page
def test_it_begins_with_what_it_is_for(page):
    title, empty, rest = read(page).split("\n", 2)
    assert re.match(r"# \w", title)
    assert empty == ""
    first = " ".join(rest.partition("\n\n")[0].split())
    assert re.fullmatch(r"[A-Z`a-z].*[.:]", first)
    assert not re.search(r"\. [A-Z]", first), "one sentence"


@every_page
def test_a_long_page_has_a_table_of_contents(page):
    if len(read(page).splitlines()) > LONG and page != "README.md":
        listed = re.findall(r"\]\(#([^)]+)\)", read(page).partition("\n## ")[0])
        assert [text for level, text in headings(page) if level == 2 and anchor(text) not in listed] == []


# Links


@every_page
def test_links_lead_to_what_is_there(page):
    for target in links(page):
        assert not target.startswith("/"), target
        name = target.partition("#")[2]
        there = ROOT / linked(page, target)
        assert there.exists(), target
        assert there.is_file() or not name, target
        if name:
            assert name in [anchor(text) for _, text in headings(linked(page, target))], target


def test_every_page_can_be_reached_from_the_readme():
    reached, following = {"README.md"}, ["README.md"]
    while following:
        page = following.pop()
        found = {linked(page, target) for target in links(page)} - reached
        reached |= found
        following += [each for each in found if each.endswith(".md") and each in pages()]
    assert [page for page in pages() if page not in reached] == []


@every_page
def test_files_that_are_named_are_there(page):
    """In code spans, as `fuzz/corpus/` or `flowserve/logs/redaction.py`: beside the page, or from the checkout on."""
    for name in re.findall(r"`([\w.-]+/[\w./-]*?(?:\.(?:py|pxd|md|toml|txt|json|svg)|/))`", read(page)):
        assert (ROOT / page).parent.joinpath(name).exists() or (ROOT / name).exists(), name


def test_no_page_names_a_host_of_this_project():
    """There is none yet."""
    host = re.compile(r"github\.com/[\w-]*/?flowserve|flowserve\.(?:dev|io|org)")
    assert [page for page in pages() if host.search(read(page))] == []


# Options


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of tables."""
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in text.splitlines() if line[:1] == "|"]


def plain(text: str) -> str:
    """Without links."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def test_every_option_is_explained_with_its_default():
    text = section("flowserve/config/README.md", "Options").replace("\\|", "/")
    shown = {}
    for cells in rows(text):
        if found := re.match(r"`--(?:\[no-\])?([a-z0-9-]+)", cells[0]):
            shown[found[1]] = cells[1].strip("`"), plain(cells[2])
    assert list(shown) == [option.word for option in OPTIONS.values()]
    for option in OPTIONS.values():
        default, explained = shown[option.word]
        assert default == option.kind.show(option.default)
        assert explained.partition(" One of `")[0] == option.help
    groups = [text for level, text in headings("flowserve/config/README.md") if level == 3]
    assert groups == list(dict.fromkeys(option.group for option in OPTIONS.values()))


def test_the_other_options_of_the_command_are_explained():
    shown = re.findall(r"`--([a-z-]+)", section("flowserve/config/README.md", "Options of the command alone"))
    options = [param for param in main.params if isinstance(param, click.Option) and not param.hidden]
    own = {param.opts[-1] for param in options if param.name not in OPTIONS}
    assert {f"--{word}" for word in shown} == {*own, "--help"}


@pytest.mark.parametrize("name", [name for name in SUBCOMMANDS if name != "dev"])  # that has the server's
def test_the_options_of_a_subcommand_are_explained(name):
    page = "examples/grafana/README.md" if name == "top" else "flowserve/commands/README.md"
    shown = {}
    for cells in rows(section(page, f"flowserve {name}")):
        if found := re.search(r"`--(?:\[no-\])?([a-z0-9-]+)", cells[0]):
            shown[f"--{found[1]}"] = cells[1].strip("`")
    ctx = click.Context(load(name), info_name=name)
    options = [param for param in load(name).params if isinstance(param, click.Option)]
    records = {next(word for word in param.opts if word[:2] == "--"): param.get_help_record(ctx) for param in options}
    defaults = {word: re.findall(r"\[default: ([^];]+)", record[1]) for word, record in records.items() if record}
    assert shown == {word: default[0] if default else "" for word, default in defaults.items()}


FOREIGN = (
    "backplane both cacert cache cases cert check client clients config configuration deploy-hook draw env "
    "experimental-websocket full "
    "graceful-timeout help ignore inplace list messages minimize minutes "
    "now output print-config pure python python27 quick reuse-port rm rounds rows scenario seconds seed servers "
    "steps stop-timeout store subscribers update url version wstest"
)
"""Options of other programs than the command itself, and of those in compliance."""


@every_page
def test_options_that_are_named_exist(page):
    known = {option.word for option in (*OPTIONS.values(), *UVICORNS.values())} | set(FOREIGN.split())
    for name in SUBCOMMANDS:
        known |= {word.removeprefix("--") for param in load(name).params for word in param.opts}
    named = set(re.findall(r"(?<![\w-])--(?:no-)?(?!\[)([a-z0-9][a-z0-9-]*)", read(page)))
    assert named - known == set()
    variables = set(re.findall(r"FLOWSERVE_[A-Z0-9_]+", read(page)))
    others = ["PURE", "NO_EXTENSIONS", "ZLIB", "CONFIG", "APP", "COMPLETE"]
    others += ["CI", "TEST_LOOP", "TEST_BACKPLANE", "PYTHON27"]
    assert variables <= {option.env for option in OPTIONS.values()} | {f"FLOWSERVE_{name}" for name in others}


# Charts and tables


def test_the_charts_are_drawn_from_the_results(tmp_path):
    folder = ROOT / "compliance" / "performance"
    shutil.copy(folder / "results.json", tmp_path)
    command = [sys.executable, "-m", "compliance.performance", "--draw", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    for name in ("chart.svg", "charts.svg"):
        assert (tmp_path / name).read_text("utf-8") == (folder / name).read_text("utf-8"), f"draw {name} anew"


def test_every_metric_is_explained():
    text = section("examples/grafana/README.md", "The metrics")
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]*?)\.? \|", text, re.MULTILINE)
    shown = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in found}
    assert shown == {
        name: (each.kind, ("worker",) * each.per_worker + tuple(each.labels), each.help.removesuffix("."))
        for name, each in FAMILIES.items()
    }


def test_every_reason_of_a_refusal_is_named():
    text = section("examples/grafana/README.md", "The metrics").partition("`reason` of a refusal:")[2]
    named = re.findall(r"`(\w+)`", text.partition("\n- ")[0])
    code = "".join(path.read_text("utf-8") for path in (ROOT / "flowserve").rglob("*.py"))
    reasons = {*re.findall(r"\.count_refusal\(\"(\w+)\"", code), *_REFUSAL_REASONS.values()}
    assert set(named) == reasons


def test_every_field_of_an_access_line_is_explained():
    shown = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", read("flowserve/logs/README.md"), re.MULTILINE)
    assert shown == [(name, text) for name, (_, text) in FIELDS.items()]


# Code


@every_page
def test_python_compiles(page):
    for block in blocks(read(page), "python"):
        compile(block, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_block_of_code_says_its_language():
    for page in pages():
        marks = re.findall(r"^```(.*)$", read(page), re.MULTILINE)
        assert set(marks[::2]) <= {"python", "toml", "yaml", "ini"}
        assert set(marks[1::2]) <= {""}


@every_page
def test_files_of_options_are_read(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(read(page), "toml"):
        (tmp_path / "flowserve.toml").write_text(block, "utf-8")
        file = find_file()
        assert file is not None
        values = {name: OPTIONS[name].convert(each.value, each.where) for name, each in file.given().items()}
        Config(file.values["app"], **values)


@every_page
def test_unit_files_are_read(page):
    for block in blocks(read(page), "ini"):
        configparser.ConfigParser(strict=False).read_string(block)


def test_the_example_of_a_log_config():
    (block,) = blocks(read("flowserve/logs/README.md"), "yaml")
    formatters = yaml.safe_load(block)["formatters"]
    assert formatters["access"]["()"] == f"{AccessFormatter.__module__.rpartition('.')[0]}.{AccessFormatter.__name__}"
    AccessFormatter(formatters["access"]["format"])


def test_the_example_of_a_json_line():
    (line,) = re.findall(r'^    (\{"time": .*\})$', read("flowserve/logs/README.md"), re.MULTILINE)
    assert set(json.loads(line)) - {"logger", "message"} <= set(FIELDS)


@pytest.mark.parametrize("end", ["flowserve examples.chat:app", "pytest"])
def test_the_readme_has_the_commands_that_ci_runs(end):
    assert len(re.findall(rf"^    python3 -m venv .*{re.escape(end)}$", read("README.md"), re.MULTILINE)) == 1


async def talk(client: str, port: int) -> list[str]:
    """The lines that a client of a page prints, run beside a server at another port than the page's."""
    program = re.sub(r"127\.0\.0\.1:(8000|8765)", f"127.0.0.1:{port}", client)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = await within(process.communicate(), 20)
    assert process.returncode == 0, out.decode()
    return out.decode().splitlines()


async def test_the_server_and_the_client_of_the_readme(tmp_path):
    (server,), (client,) = (blocks(section("README.md", name), "python") for name in ("A server", "A client"))
    (tmp_path / "main.py").write_text(server, "utf-8")
    async with launched("main:app", "--app-dir", str(tmp_path)) as running:
        said = await talk(client, running.address[1])
    assert said[0] == "hello"
    assert re.fullmatch(r"\d+\.\d ms", said[1])
    assert said[2:] == ["1000"]


HELLO_AND_CLOSE = """
async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    await send({"type": "websocket.send", "text": message["text"]})
    await send({"type": "websocket.send", "text": "more"})
    await send({"type": "websocket.close", "code": 1000, "reason": "done"})
    while message["type"] != "websocket.disconnect":
        message = await receive()
"""


async def test_the_client_of_the_library(tmp_path):
    (client,) = blocks(section("flowserve/library/README.md", "A client"), "python")[:1]
    (tmp_path / "main.py").write_text(HELLO_AND_CLOSE, "utf-8")
    client = re.sub(r".*ws\.ping\(.*\n", "", client)  # the server may have closed by then
    async with launched("main:app", "--app-dir", str(tmp_path), "--lifespan", "off") as running:
        assert await talk(client, running.address[1]) == ["hello", "more", "1000 done"]


async def test_the_server_of_the_library():
    (server,) = blocks(section("flowserve/library/README.md", "A server"), "python")
    scope: dict[str, Any] = {"__name__": "page"}
    exec(server.partition("\n\nwith suppress")[0], scope)
    async with serve(scope["echo"], "127.0.0.1", 0) as running:
        host, port = running.sockets[0].getsockname()
        async with connect(f"ws://{host}:{port}", proxy=None) as ws:
            await ws.send("hello")
            assert await within(ws.receive()) == "hello"


async def test_the_server_in_a_program_of_your_own(capsys):
    (program,) = blocks(section("flowserve/server/README.md", "The server in a program of your own"), "python")
    program = program.replace('"main:app"', '"support.helpers:hello"')
    scope: dict[str, Any] = {}
    exec(program.partition("\n\nasyncio.run")[0], scope)
    await within(scope["main"]())
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", capsys.readouterr().out)
