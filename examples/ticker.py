"""A live price board on FastAPI: prices come in by HTTP and go out to whoever watches by WebSocket.

Start it with: flowserve examples.ticker:app
then http://127.0.0.1:8000/docs describes the HTTP side, and this sets a price:

    curl -X PUT http://127.0.0.1:8000/prices/ACME -H 'content-type: application/json' -d '{"price": 12.5}'

A watcher of ws://127.0.0.1:8000/live?symbol=ACME&symbol=INIT gets {"symbol": "ACME", "price": 12.5, "version": 1}
at once for each price that is there, and again whenever one changes. Without `symbol` it gets them all.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field


class NewPrice(BaseModel):
    price: float = Field(gt=0, allow_inf_nan=False)


class Price(NewPrice):
    symbol: str
    version: int  # 1 for the first price, one more with each change


class Watcher:
    """What one WebSocket has not been told yet: a slow one misses prices in between, never the newest."""

    def __init__(self, symbols: list[str], prices: dict[str, Price]) -> None:
        self.symbols = symbols
        self.news: dict[str, Price] = {}
        self.something = asyncio.Event()
        for price in prices.values():
            self.tell(price)

    def tell(self, price: Price) -> None:
        if not self.symbols or price.symbol in self.symbols:
            self.news[price.symbol] = price
            self.something.set()

    async def write_to(self, websocket: WebSocket) -> None:
        with suppress(WebSocketDisconnect):
            while True:
                await self.something.wait()
                self.something.clear()
                news, self.news = self.news, {}
                for price in news.values():
                    await websocket.send_json(price.model_dump())


app = FastAPI(title="Live prices")
prices: dict[str, Price] = {}
watchers: set[Watcher] = set()


@app.get("/prices")
async def list_prices() -> list[Price]:
    return list(prices.values())


@app.get("/prices/{symbol}")
async def get_price(symbol: str) -> Price:
    if symbol not in prices:
        raise HTTPException(404, f"no price of {symbol} is known")
    return prices[symbol]


@app.put("/prices/{symbol}")
async def put_price(symbol: str, new: NewPrice) -> Price:
    version = prices[symbol].version + 1 if symbol in prices else 1
    price = prices[symbol] = Price(symbol=symbol, price=new.price, version=version)
    for watcher in watchers:
        watcher.tell(price)
    return price


@app.websocket("/live")
async def live(websocket: WebSocket, symbol: Annotated[list[str] | None, Query()] = None) -> None:
    await websocket.accept()
    watcher = Watcher(symbol or [], prices)
    watchers.add(watcher)
    writer = asyncio.create_task(watcher.write_to(websocket))
    try:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass  # a watcher has nothing to say; this waits for its end
    finally:
        watchers.discard(watcher)
        writer.cancel()


if __name__ == "__main__":
    sys.exit("Start it with: flowserve examples.ticker:app")
