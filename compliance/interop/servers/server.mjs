// Node's ws and Bun as servers: echo, and by path what interop/client.py asks for.
// server.mjs PORT CERTFILE KEYFILE [the directory that has ws in its node_modules]; without TLS the files are empty.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [port, cert, key, modules] = process.argv.slice(2);
const tls = cert ? { cert: readFileSync(cert), key: readFileSync(key) } : undefined;
const host = "127.0.0.1";
let last = "";

/** What happens when a WebSocket is open: `ws` has the same methods in both. */
function opened(ws, path) {
  if (path === "/close") ws.close(4002, "over");
  if (path === "/ping") ws.ping("server");
  if (path === "/last") {
    ws.send(last);
    ws.close(1000);
  }
}

function closed(path, code, reason) {
  if (path === "/") last = `${code} ${reason}`;
}

if (modules) {
  const { WebSocketServer } = createRequire(`${modules}/`)("ws");
  const { createServer } = tls ? await import("node:https") : await import("node:http");
  const server = createServer(tls ?? {}).listen(Number(port), host);
  const options = { server, perMessageDeflate: { threshold: 0 }, handleProtocols: () => "interop" };
  new WebSocketServer(options).on("connection", (ws, request) => {
    ws.on("message", (data, binary) => ws.send(data, { binary }));
    ws.on("pong", (data) => ws.send(`pong ${data}`));
    ws.on("close", (code, reason) => closed(request.url, code, reason));
    opened(ws, request.url);
  });
} else {
  Bun.serve({
    port: Number(port),
    hostname: host,
    tls,
    fetch(request, server) {
      const offered = request.headers.get("sec-websocket-protocol");
      const headers = offered ? { "Sec-WebSocket-Protocol": "interop" } : {};
      const data = { path: new URL(request.url).pathname };
      return server.upgrade(request, { headers, data }) ? undefined : new Response("no WebSocket", { status: 400 });
    },
    websocket: {
      perMessageDeflate: true,
      open: (ws) => opened(ws, ws.data.path),
      message: (ws, message) => ws.send(message, true),
      pong: (ws, data) => ws.send(`pong ${data}`),
      close: (ws, code, reason) => closed(ws.data.path, code, reason),
    },
  });
}
