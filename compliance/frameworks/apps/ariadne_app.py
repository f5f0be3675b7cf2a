"""Ariadne: GraphQL over HTTP, and subscriptions over graphql-transport-ws."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import ledger
from ariadne import QueryType, SubscriptionType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLTransportWSHandler
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

TYPES = """
    type Query { hello(name: String = "world"): String! }
    type Subscription { count(to: Int!): Int! waiting: String! }
"""
query = QueryType()
subscription = SubscriptionType()


@query.field("hello")
def resolve_hello(*_: Any, name: str) -> str:
    return f"hello {name}"


@subscription.source("count")
async def count_source(*_: Any, to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


@subscription.source("waiting")
async def waiting_source(*_: Any) -> AsyncIterator[str]:
    async for _event in ledger.events():
        yield "hello"


@subscription.field("count")
@subscription.field("waiting")
def itself(value: Any, *_: Any, **__: Any) -> Any:
    return value


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def counts(request: Request) -> Response:
    return JSONResponse(ledger.counts)


schema = make_executable_schema(TYPES, query, subscription)
graphql = GraphQL(schema, websocket_handler=GraphQLTransportWSHandler())
app = Starlette(routes=[Route("/", hello), Route("/counts", counts), Mount("/graphql", graphql)])
