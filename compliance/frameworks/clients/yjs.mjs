// Yjs with y-websocket: documents that are edited on both sides, offline too.
import { check, expect, need, port, sleep, until } from "./report.mjs";

const Y = need("yjs");
const { WebsocketProvider } = need("y-websocket");
const WebSocketPolyfill = need("ws");

function enter(room) {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(`ws://127.0.0.1:${port}/rooms`, room, doc, { WebSocketPolyfill, disableBc: true });
  return { doc, provider, text: doc.getText("text"), map: doc.getMap("map") };
}

/** Two in one room; the second enters when the first is in, since pycrdt's rooms bear one start at a time. */
async function enterBoth(room) {
  const one = enter(room);
  await synced(one);
  const two = enter(room);
  await synced(two);
  return [one, two];
}
const synced = (one) => until(() => one.provider.synced, "synced");
const leave = (...all) => all.forEach((one) => one.provider.destroy());

await check("yjs: two clients edit one text", async () => {
  const [one, two] = await enterBoth("text");
  for (let number = 0; number < 100; number++) {
    one.text.insert(0, "a");
    two.text.insert(two.text.length, "b");
  }
  await until(() => one.text.length === 200 && one.text.toString() === two.text.toString(), "the same text");
  leave(one, two);
});

await check("yjs: a late client gets all", async () => {
  const one = enter("late");
  await synced(one);
  one.map.set("big", "x".repeat(1000000));
  const two = enter("late");
  await until(() => two.map.get("big")?.length === 1000000, "the document");
  leave(one, two);
});

await check("yjs: changes made offline come when back", async () => {
  const [one, two] = await enterBoth("offline");
  two.provider.disconnect();
  await sleep(0.3); // pycrdt's room does not bear a change while it learns that a client leaves
  one.map.set("one", 1);
  two.map.set("two", 2);
  two.provider.connect();
  await until(() => one.map.get("two") === 2 && two.map.get("one") === 1, "merged");
  leave(one, two);
});

await check("yjs: awareness", async () => {
  const [one, two] = await enterBoth("aware");
  one.provider.awareness.setLocalStateField("user", { name: "alice" });
  const names = () => [...two.provider.awareness.getStates().values()].map((state) => state.user?.name);
  await until(() => names().includes("alice"), "alice is seen");
  expect(names().filter((name) => name === "alice").length, 1);
  leave(one, two);
});

process.exit(0);
