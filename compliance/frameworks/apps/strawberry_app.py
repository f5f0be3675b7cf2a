"""Strawberry: GraphQL over HTTP, and subscriptions over graphql-transport-ws."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import ledger
import strawberry
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from strawberry.fastapi import GraphQLRouter


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, name: str = "world") -> str:
        return f"hello {name}"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int) -> AsyncGenerator[int, None]:
        for number in range(to):
            yield number

    @strawberry.subscription
    async def waiting(self) -> AsyncGenerator[str, None]:
        async for _ in ledger.events():
            yield "hello"


app = FastAPI()
app.include_router(GraphQLRouter(strawberry.Schema(Query, subscription=Subscription), path="/graphql/"))


@app.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    return "hello"


@app.get("/counts")
async def counts() -> dict[str, object]:
    return ledger.counts
