// Gradio's page in Chromium.
import { check, until, visit } from "./browser.mjs";

await visit(async (page) => {
  const value = (label) => page.getByLabel(label, { exact: true }).inputValue();
  await check("gradio: a function is called", async () => {
    await page.getByLabel("Name", { exact: true }).fill("alice");
    await page.getByRole("button", { name: "Greet" }).click();
    await until(async () => (await value("Greeting")) === "Hello alice!", "the greeting", 8);
  });
  await check("gradio: a stream comes in pieces", async () => {
    await page.getByRole("button", { name: "Count" }).click();
    const seen = new Set();
    await until(async () => seen.add(await value("Counted")) && seen.has("counted 9"), "the last piece", 8);
    if (seen.size < 5) throw new Error(`only ${[...seen].join(", ")}`);
  });
  await check("gradio: upload", async () => {
    await page.setInputFiles("input[type=file]", { name: "a.bin", mimeType: "text/plain", buffer: Buffer.alloc(300000) });
    await until(async () => (await value("Size")) === "300000 bytes", "the size", 8);
  });
});
process.exit(0);
