// What the clients in JavaScript share: arguments, packages, and telling what came of each check.
import { createRequire } from "node:module";

export const [port, npm, browser] = process.argv.slice(2);
export const need = createRequire(`${npm}/`);

/** Run one check, within ten seconds: a line of JSON says how it went. */
export async function check(name, run) {
  let failed = "";
  try {
    await within(run(), 10);
  } catch (error) {
    failed = String(error?.message ?? error).split("\n")[0] || "failed";
  }
  console.log(JSON.stringify({ check: name, failed }));
}

export function within(promise, seconds) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function expect(got, wanted, what = "value") {
  const [left, right] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (left !== right) throw new Error(`${what}: expected ${right}, got ${left?.slice(0, 100)}`);
}

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export async function until(condition, what, seconds = 5) {
  for (const deadline = Date.now() + seconds * 1000; !(await condition()); await sleep(0.05)) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
  }
}
