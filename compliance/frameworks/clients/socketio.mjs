// socket.io-client, over each transport and with the upgrade between them.
import { check, expect, need, port, sleep, until } from "./report.mjs";

const { io } = need("socket.io-client");
const url = `http://127.0.0.1:${port}`;
const connect = (options) => io(url, { forceNew: true, reconnection: false, ...options });
const opened = (socket) =>
  new Promise((resolve, reject) => socket.on("connect", () => resolve(socket)).on("connect_error", reject));

for (const transports of [["websocket"], ["polling"], ["polling", "websocket"]]) {
  const name = transports.join(" to ");
  await check(`socket.io over ${name}: echo`, async () => {
    const socket = await opened(connect({ transports }));
    for (const value of ["hello", { a: [1, "\u2603"] }, "x".repeat(300000)]) {
      expect(await socket.emitWithAck("echo", value), value, "echo");
    }
    const bytes = Buffer.from([0, 1, 255]);
    expect([...(await socket.emitWithAck("echo", bytes))], [...bytes], "bytes");
    if (transports.length > 1) expect(socket.io.engine.transport.name, "websocket", "transport");
    socket.close();
  });
  await check(`socket.io over ${name}: rooms`, async () => {
    const sockets = await Promise.all([1, 2, 3].map(() => opened(connect({ transports }))));
    const said = [];
    for (const socket of sockets) {
      socket.on("said", (word) => said.push(word));
      await socket.emitWithAck("enter", name);
    }
    sockets[0].emit("say", name, "hello");
    await until(() => said.length === 3, "a message to each of the room");
    for (const socket of sockets) socket.close();
  });
}

await check("socket.io: heartbeats keep the connection", async () => {
  const socket = await opened(connect({ transports: ["websocket"] }));
  let reason = "";
  socket.on("disconnect", (why) => (reason = why));
  await sleep(3);
  expect(reason, "", "disconnected");
  socket.close();
});

await check("socket.io: a refusal is told", async () => {
  const refused = await opened(connect({ auth: { token: "wrong" } })).catch((error) => error.message);
  expect(refused, "wrong token");
});

await check("socket.io: the application hears of those that leave", async () => {
  const gone = async () => (await (await fetch(`${url}/gone`)).json()).length;
  const before = await gone();
  const sockets = await Promise.all([1, 2].map(() => opened(connect({ transports: ["websocket"] }))));
  sockets[0].close();
  sockets[1].io.engine.transport.ws.terminate?.();
  sockets[1].io.engine.close();
  await until(async () => (await gone()) >= before + 2, "both have left");
});

process.exit(0);
