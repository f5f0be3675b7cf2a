"""What type checkers must refuse: each line that ends in a comment, for what the comment says."""

from __future__ import annotations

import socket

from flowserve import Config, Server, WebSocket, accept, connect, run, serve


async def app(scope: object, receive: object, send: object) -> None: ...


async def handler(ws: WebSocket) -> None: ...


run("main:app", prot=8000)  # prot
run("main:app", port="http")  # port
run("main:app", lifespan="of")  # lifespan
run("main:app", ws_max_size=1.5)  # ws_max_size
run("main:app", host=80)  # host
Config(app, ws_max_sise="1MiB")  # ws_max_sise
Config(app, timeout_keep_alive=None)  # timeout_keep_alive
Config(app, access_log="yes")  # access_log
Config(app, "127.0.0.1")  # positional
Config(app, headers=[("x-a", 1)])  # tuple
Config(app, ssl_context_factory=app)  # ssl_context_factory
Config(app).port = 80  # port
Server("main:app")  # Config
Server(Config(app)).run(sockets=socket.socket())  # sockets
serve(handler, "127.0.0.1", 80, ws_max_size="1MiB")  # ws_max_size
serve(handler, "127.0.0.1", 80, max_size=1.5)  # max_size
serve(handler, "127.0.0.1", 80, lifespan="off")  # lifespan
connect("ws://localhost", ping_intervall=20)  # ping_intervall
connect("ws://localhost", ping_interval=[20])  # ping_interval
connect("ws://localhost", timeout_keep_alive=5)  # timeout_keep_alive
connect("ws://localhost", slow_consumer="ignore")  # slow_consumer
accept(socket.socket(), deflate_levl=1)  # deflate_levl
accept(socket.socket(), compression="gzip")  # compression
