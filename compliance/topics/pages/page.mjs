// One page: keeps the numbers that it gets, "gap" where some are missing, and publishes them when it is told to stop.
import { connect, START } from "./client.mjs";

export function run(base, name) {
  const seen = [];
  const client = connect(`ws${base.slice(4)}/topics?page=${name}`);
  const numbers = client.subscribe("numbers", {
    since: START,
    onmessage(data) {
      if (data !== "stop") return seen.push(data);
      numbers.unsubscribe();
      client.publish("reports", { page: name, seen });
    },
    ongap() { seen.push("gap"); },
  });
}

if (globalThis.process) for (let number = 0; number < process.argv[3]; number++) run(process.argv[2], `node-${number}`);
