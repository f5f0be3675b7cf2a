// Chromium, driven by playwright-core: one page, told by the name of the application.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { browser as executablePath, check, expect, need, port, until } from "./report.mjs";

const { chromium } = need("playwright-core");
const ARGUMENTS = JSON.parse(process.env.CHROMIUM_FLAGS ?? "[]");
const url = `http://127.0.0.1:${port}`;

/** `run(page)` in a browser of its own; an error in its console is a failure. */
export async function visit(run) {
  const directory = mkdtempSync(`${tmpdir()}/chromium-`);
  const context = await chromium.launchPersistentContext(directory, { executablePath, args: ARGUMENTS });
  const page = context.pages()[0] ?? (await context.newPage());
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  await page.goto(`${url}/page`, { waitUntil: "domcontentloaded" });
  await run(page, problems);
  await context.close();
  rmSync(directory, { recursive: true, force: true });
}

export const sees = (page, text) => page.getByText(text, { exact: true }).first().waitFor({ timeout: 8000 });
export { check, expect, until, url };
