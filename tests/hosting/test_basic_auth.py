"""basic_auth(): who may open a WebSocket, by HTTP Basic authentication (RFC 7617)."""

from __future__ import annotations

import base64

import pytest
from support.helpers import within

from flowserve import ConfigError, HandshakeError, basic_auth, connect, serve


async def greet(ws):
    await ws.send(ws.username)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


async def answer(auth, authorization: str | None) -> tuple[int, str]:
    """What a client gets: 101 and its name, or the status and the body of the refusal."""
    headers = {} if authorization is None else {"Authorization": authorization}
    async with serve(greet, "127.0.0.1", 0, process_request=auth) as server:
        port = server.sockets[0].getsockname()[1]
        try:
            async with connect(f"ws://127.0.0.1:{port}/", additional_headers=headers) as ws:
                return 101, str(await within(ws.receive()))
        except HandshakeError as refused:
            error = refused
    assert dict(error.headers)[b"www-authenticate"] == b'Basic realm="my \\"own\\"", charset="UTF-8"'
    return error.status, error.body.decode()


async def later(user: str, password: str) -> bool:
    return (user, password) == ("ada", "x:y")


@pytest.mark.parametrize(
    "how",
    [
        {"credentials": ("ada", "x:y")},
        {"credentials": [("bob", "b"), ("ada", "x:y")]},
        {"check_credentials": later},
        {"check_credentials": lambda user, password: (user, password) == ("ada", "x:y")},
    ],
)
async def test_who_is_let_in(how):
    auth = basic_auth('my "own"', **how)
    assert await answer(auth, basic("ada:x:y")) == (101, "ada")
    assert await answer(auth, basic("ada:x:y").replace("Basic", "bAsIc")) == (101, "ada")
    assert await answer(auth, basic("ada:wrong")) == (401, "Wrong user or password\n")
    assert await answer(auth, basic("eve:")) == (401, "Wrong user or password\n")


@pytest.mark.parametrize("given", [None, "Bearer abc", "Basic", "Basic ???", basic("no colon"), "Basic /w=="])
async def test_who_says_nothing_that_is_understood(given):
    auth = basic_auth('my "own"', ("ada", "x"))
    assert await answer(auth, given) == (401, "User and password are wanted\n")


async def test_in_a_uri():
    auth = basic_auth(credentials=("ädä", "pässword"))
    async with (
        serve(greet, "127.0.0.1", 0, process_request=auth) as server,
        connect(f"ws://ädä:pässword@127.0.0.1:{server.sockets[0].getsockname()[1]}/") as ws,
    ):
        assert await within(ws.receive()) == "ädä"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"credentials": ("a", "b"), "check_credentials": later},
        {"credentials": "ab"},
        {"credentials": ("a", 5)},
        {"credentials": 5},
        {"credentials": [("a", "b"), "ab"]},
        {"credentials": ("a", "b"), "realm": "line\nbreak"},
    ],
)
def test_what_makes_no_sense(arguments):
    with pytest.raises(ConfigError, match="basic_auth: "):
        basic_auth(**arguments)
