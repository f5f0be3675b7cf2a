"""What a client publishes waits in order until it is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.helpers import until

from flowserve.topics.client.publishing import Done, Publishing

LIMITED = {"error": {"code": "rate_limited", "retry_after": 0.001}}


class Server:
    """Takes what is sent, and answers when it is told to."""

    def __init__(self) -> None:
        self.unanswered: list[tuple[Any, Done]] = []
        self.publishing = Publishing(lambda request, done: self.unanswered.append((request["n"], done)))
        self.tasks: list[asyncio.Task[Any]] = []

    async def publish(self, *numbers: int) -> None:
        self.tasks += [asyncio.ensure_future(self.publishing.publish({"n": number})) for number in numbers]
        await asyncio.sleep(0)

    def answer(self, answer: dict[str, Any]) -> None:
        _, done = self.unanswered.pop(0)
        done(answer)

    @property
    def sent(self) -> list[int]:
        return [number for number, _ in self.unanswered]


@pytest.fixture
async def server() -> Server:
    return Server()


async def test_no_more_than_the_server_takes(server: Server) -> None:
    await server.publish(*range(10))
    assert server.sent == []
    server.publishing.begin()
    assert server.sent == [0]
    server.answer({"remaining": 2})
    assert server.sent == [1, 2]
    server.answer({"remaining": 1})
    assert server.sent == [2]  # for which the one that remains is
    server.answer({"remaining": 0})
    assert server.sent == [3]
    server.answer({})  # it has no limit
    assert server.sent == list(range(4, 10))


async def test_one_that_is_refused_keeps_its_place(server: Server) -> None:
    await server.publish(*range(4))
    server.publishing.begin()
    server.answer(LIMITED)
    assert server.sent == []
    await server.publish(4)
    assert server.sent == []
    await until(lambda: server.sent == [0])
    server.answer({})
    assert server.sent == [1, 2, 3, 4]
    server.answer(LIMITED)  # it should not, as it has said that it has no limit
    server.answer({})
    assert [task.done() for task in server.tasks] == [False] * 5
    await until(lambda: 1 in server.sent)
    assert server.sent == [3, 4, 1]


async def test_what_else_is_refused_is_not_sent_again(server: Server) -> None:
    await server.publish(0, 1)
    server.publishing.begin()
    server.answer({"error": {"code": "forbidden"}})
    assert server.sent == [1]
    assert (await server.tasks[0])["error"]["code"] == "forbidden"


@pytest.mark.parametrize("said", [None, "soon", -1, 1e9, float("nan")])
async def test_a_server_that_does_not_say_when(server: Server, said: Any) -> None:
    await server.publish(0)
    server.publishing.begin()
    server.answer({"error": {"code": "rate_limited", "retry_after": said}})
    server.publishing.stop()  # another connection need not wait
    server.publishing.begin()
    assert server.sent == [0]


async def test_another_connection(server: Server) -> None:
    await server.publish(*range(3))
    server.publishing.begin()
    server.answer({})
    server.tasks[1].cancel()
    await asyncio.sleep(0)
    server.publishing.stop()
    server.unanswered.clear()
    await server.publish(3)
    server.tasks[3].cancel()
    await server.publish(4)
    assert server.sent == []
    server.publishing.begin()
    assert server.sent == [2]
    server.answer({})
    assert server.sent == [4]
