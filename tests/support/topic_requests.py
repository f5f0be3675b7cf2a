"""A client of the protocol of flowserve/topics/PROTOCOL.md, in literal JSON."""

from __future__ import annotations

import itertools
import json
from typing import Any

from support.helpers import Client


class Requester:
    """A WebSocket that sends requests. What comes between is in `deliveries`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.deliveries: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)

    async def request(self, type: str, **members: Any) -> dict[str, Any]:
        """Send a request, and return the answer without its id."""
        number = next(self._numbers)
        await self.client.send_text(json.dumps({"id": number, "type": type, **members}))
        return await self.answer(number)

    async def answer(self, number: int | None) -> dict[str, Any]:
        """Return the next answer, which has to be that to the request with this number."""
        while "id" not in (found := await self.read()):
            self.deliveries.append(found)
        assert found.pop("id") == number
        return found

    async def refused(self, type: str, **members: Any) -> str:
        """Send a request that is refused, and return the error's code."""
        answer = await self.request(type, **members)
        assert list(answer) == ["error"], answer
        assert isinstance(answer["error"].pop("message"), str)
        code: str = answer["error"]["code"]
        return code

    async def read(self) -> dict[str, Any]:
        """Return the next message of whatever kind."""
        found: dict[str, Any] = json.loads(await self.client.message())
        return found

    async def delivery(self) -> dict[str, Any]:
        """Return the next message of a topic."""
        return self.deliveries.pop(0) if self.deliveries else await self.read()

    async def data(self) -> Any:
        """Return the data of the next message of a topic, None for a gap."""
        return (await self.delivery()).get("data")
