// NiceGUI's page in Chromium.
import { check, expect, sees, until, url, visit } from "./browser.mjs";

await visit(async (page, problems) => {
  await check("nicegui: clicks go to the server and back", async () => {
    for (let number = 1; number <= 5; number++) {
      await page.getByRole("button", { name: "Click" }).click();
      await sees(page, `${number} clicks`);
    }
  });
  await check("nicegui: what is typed", async () => {
    await page.getByLabel("Name").pressSequentially("alice");
    await sees(page, "typed:alice");
  });
  await check("nicegui: the server pushes", async () => {
    const ticks = async () => Number((await page.getByText(/^ticks/).textContent()).split(" ")[1]);
    const before = await ticks();
    await until(async () => (await ticks()) > before + 5, "ticks");
  });
  await check("nicegui: upload", async () => {
    await page.setInputFiles("input[type=file]", { name: "a.bin", mimeType: "text/plain", buffer: Buffer.alloc(300000) });
    await sees(page, "uploaded 300000");
  });
  await check("nicegui: no error in the page", async () => expect(problems, []));
});
await check("nicegui: the server hears that the page is gone", async () => {
  await until(async () => (await (await fetch(`${url}/left`)).json()) > 0, "gone", 9);
});
process.exit(0);
