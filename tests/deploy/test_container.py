"""The Dockerfile of examples/deploy, as far as it can be followed without building the image."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import sysconfig

from support.helpers import Client
from support.programs import DEPLOY

ROOT = DEPLOY.parents[1]
SCRIPTS = sysconfig.get_path("scripts")


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    found = []
    for line in filter(str.strip, lines):
        name, _, rest = line.partition(" ")
        found.append((name, " ".join(rest.split())))
    return found


def last(name: str) -> str:
    return [rest for each, rest in instructions() if each == name][-1]


def environment() -> dict[str, str]:
    """The settings that the image brings, its folder of programs being this environment's."""
    values = dict(re.findall(r"([A-Z_]+)=(\S+)", last("ENV")))
    assert values.pop("PATH") == "/venv/bin:$PATH"
    return {**values, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}


def health_check() -> list[str]:
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    return [sys.executable, *command[1:]]


async def test_the_command_and_its_health(start):
    """The list that CMD is, in the checkout as in /app: it serves, is healthy, and SIGTERM ends it."""
    settings = environment()
    assert settings["FLOWSERVE_HOST"] == "0.0.0.0"
    command = json.loads(last("CMD"))
    program = await start(*command, cwd=ROOT, **(settings | {"FLOWSERVE_HOST": "127.0.0.1", "FLOWSERVE_PORT": "0"}))
    found = await program.logged(r"Listening on http://([0-9.]+):(\d+)")
    client = await Client.connect((found[1], int(found[2])))
    assert b"<title>Chat</title>" in (await client.get()).body
    await client.aclose()
    inside = settings | {"FLOWSERVE_PORT": found[2]}
    check = await start(*health_check(), **inside)
    assert await check.ended() == 0, check.log
    program.signal(signal.SIGTERM)
    assert await program.ended() == 0
    assert "/-/health" not in program.log
    check = await start(*health_check(), **inside)
    assert await check.ended() != 0


async def test_503_is_not_healthy(start, serve):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body"})

    server = await serve(app)
    check = await start(*health_check(), **environment() | {"FLOWSERVE_PORT": str(server.port)})
    assert await check.ended() == 1, check.log
    assert check.log == ""


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignored


def test_it_is_safe_to_run():
    """Not root, no shell around the server, and the end comes before Docker's patience does."""
    names = [name for name, _ in instructions()]
    assert set(names) <= {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))
    stages = [rest.split() for name, rest in instructions() if name == "FROM"]
    assert stages[0] == [stages[1][0], "AS", "build"]  # the same Python, which the environment's links lead to
    assert names[-1] == "CMD"
    assert float(environment()["FLOWSERVE_TIMEOUT_GRACEFUL_SHUTDOWN"].removesuffix("s")) < 10
