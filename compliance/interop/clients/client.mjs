// A client with the WebSocket interface of browsers: Node's ws, Bun, and (through browser.html) Chromium.
// As a command: client.mjs URL CORPUS IN_FLIGHT [the directory that has ws in its node_modules]

/** The messages of a corpus file, strings and Uint8Arrays. */
export function messages(buffer) {
  const view = new DataView(buffer);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const found = [];
  for (let at = 0; at < buffer.byteLength; ) {
    const data = new Uint8Array(buffer, at + 5, view.getUint32(at + 1));
    found.push(view.getUint8(at) === 1 ? decoder.decode(data) : data);
    at += 5 + data.length;
  }
  return found;
}

function same(sent, got) {
  if (typeof sent === "string") return sent === got;
  if (!(got instanceof ArrayBuffer) || got.byteLength !== sent.length) return false;
  const bytes = new Uint8Array(got);
  return sent.every((byte, index) => byte === bytes[index]);
}

/** Send all of the corpus, so many in flight, and compare what comes back. */
export function converse(socket, corpus, inFlight) {
  let sent = 0;
  let changed = 0;
  let came = 0;
  let started;
  socket.binaryType = "arraybuffer";
  return new Promise((resolve) => {
    const push = () => {
      while (sent < corpus.length && sent - came < inFlight) socket.send(corpus[sent++]);
      if (came === corpus.length) socket.close(1000);
    };
    socket.onopen = () => {
      started = performance.now();
      push();
    };
    socket.onmessage = (event) => {
      if (!same(corpus[came++], event.data)) changed++;
      push();
    };
    socket.onclose = (event) => {
      const seconds = (performance.now() - started) / 1000;
      resolve({ extensions: socket.extensions, came, changed, seconds, close: event.code });
    };
    socket.onerror = () => {}; // onclose comes too
  });
}

if (typeof process !== "undefined") {
  const { readFileSync } = await import("node:fs");
  const { createRequire } = await import("node:module");
  const [url, path, inFlight, modules] = process.argv.slice(2);
  const file = readFileSync(path);
  const corpus = messages(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
  const require = modules && createRequire(`${modules}/`);
  const options = { perMessageDeflate: { threshold: 0 }, maxPayload: 0 };
  const socket = modules ? new (require("ws").WebSocket)(url, options) : new WebSocket(url);
  let answered;
  if (modules) socket.on("upgrade", (response) => (answered = response.headers["sec-websocket-extensions"]));
  const report = await converse(socket, corpus, Number(inFlight));
  report.version = modules ? require("ws/package.json").version : process.versions.bun;
  report.extensions = answered ?? report.extensions;
  console.log(JSON.stringify(report));
}
