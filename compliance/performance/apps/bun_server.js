// Bun's server (uWebSockets inside). bun bun_server.js echo|room|topic PORT SIZE [CERTFILE KEYFILE]
const [mode, port, , cert, key] = process.argv.slice(2);
const deflate = Boolean(process.env.BENCHMARK_DEFLATE);
const members = [];

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  tls: cert ? { cert: Bun.file(cert), key: Bun.file(key) } : undefined,
  fetch(request, server) {
    const member = new URL(request.url).pathname === "/member";
    if (server.upgrade(request, { data: { member } })) return;
    return new Response("hello");
  },
  websocket: {
    perMessageDeflate: deflate,
    maxPayloadLength: 16 * 1024 * 1024,
    idleTimeout: 20,
    sendPings: true,
    open(socket) {
      if (!socket.data.member) return;
      if (mode === "room") members.push(socket);
      else if (mode === "topic") socket.subscribe("room");
    },
    message(socket, message) {
      if (mode === "echo") socket.send(message);
      else if (mode === "topic") server.publish("room", message, deflate);
      else for (const member of members) member.send(message);
    },
  },
});
