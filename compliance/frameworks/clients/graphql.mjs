// graphql-ws, and queries by fetch.
import { check, expect, need, port, until } from "./report.mjs";

const { createClient } = need("graphql-ws");
const WebSocket = need("ws");
const http = `http://127.0.0.1:${port}`;
const client = (options) =>
  createClient({ url: `ws://127.0.0.1:${port}/graphql/`, webSocketImpl: WebSocket, retryAttempts: 0, ...options });
const open = async () => (await (await fetch(`${http}/counts`)).json()).open;

await check("graphql: query over HTTP", async () => {
  const response = await fetch(`${http}/graphql/`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query: '{ hello(name: "cat") }' }),
  });
  expect(await response.json(), { data: { hello: "hello cat" } });
});

await check("graphql-ws: query", async () => {
  const graphql = client();
  const found = graphql.iterate({ query: "{ hello }" });
  expect((await found.next()).value.data, { hello: "hello world" });
  await graphql.dispose();
});

await check("graphql-ws: subscriptions side by side", async () => {
  const graphql = client();
  const counted = await Promise.all(
    [1, 50, 500].map(async (to) => {
      let seen = 0;
      for await (const result of graphql.iterate({ query: `subscription { count(to: ${to}) }` })) {
        expect(result.data.count, seen++);
      }
      return seen;
    }),
  );
  expect(counted, [1, 50, 500]);
  await graphql.dispose();
});

await check("graphql-ws: a subscription that is left ends", async () => {
  const graphql = client();
  const waiting = graphql.iterate({ query: "subscription { waiting }" });
  expect((await waiting.next()).value.data, { waiting: "hello" });
  expect(await open(), 1, "open");
  await waiting.return();
  await until(async () => (await open()) === 0, "the generator ends");
  await graphql.dispose();
});

await check("graphql-ws: subscriptions of a client that is lost end", async () => {
  let socket;
  const graphql = client({ on: { opened: (opened) => (socket = opened) } });
  const waiting = graphql.iterate({ query: "subscription { waiting }" });
  await waiting.next();
  socket.terminate();
  await until(async () => (await open()) === 0, "the generator ends");
});

await check("graphql-ws: an unknown subprotocol is refused or closed with 4406", async () => {
  const code = await new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/graphql/`, "unknown");
    socket.on("close", resolve);
    socket.on("error", (error) => resolve(error.message.includes("subprotocol") ? 4406 : error.message));
  });
  if (code !== 4406 && !String(code).includes("403")) throw new Error(`close code ${code}`);
});

process.exit(0);
