// Bun's server (uWebSockets inside). bun bun_server.js echo|room PORT SIZE [CERTFILE KEYFILE]
const [mode, port, , cert, key] = process.argv.slice(2);
const members = [];

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  tls: cert ? { cert: Bun.file(cert), key: Bun.file(key) } : undefined,
  fetch(request, server) {
    const member = new URL(request.url).pathname === "/member";
    if (server.upgrade(request, { data: { member } })) return;
    return new Response("hello");
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: 16 * 1024 * 1024,
    idleTimeout: 20,
    sendPings: true,
    open(socket) {
      if (mode === "room" && socket.data.member) members.push(socket);
    },
    message(socket, message) {
      if (mode === "echo") socket.send(message);
      else for (const member of members) member.send(message);
    },
  },
});
