// Takes the pictures of an order's trace that README.md shows, in a light and a dark theme: the last order of the story
// whose card was declined, without the calls of the functions that lead to no other function.
// Usage: make demo && .local/node/bin/node tests/browser/picture.mjs [<address of the page of traces>]
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { open, withBrowser } from "./browser.mjs";

const traces = process.argv[2] ?? "http://127.0.0.1:4567";
const docs = fileURLToPath(new URL("../../docs/", import.meta.url));
// As wide as the column in which GitHub shows README.md, and sharp on most screens.
const viewport = { width: 1000, height: 800 }, deviceScaleFactor = 2;

const { items } = await (await fetch(`${traces}/api/traces?limit=1000`)).json();
let order;
for (const { trace_id } of items.filter(({ name, errors }) => name === "POST /orders" && errors === 1)) {
  const { spans } = await (await fetch(`${traces}/api/traces/${trace_id}`)).json();
  if (spans.some((span) => span.function === "payments-authorize" && span.status === "error")) {
    order = trace_id;
    break;
  }
}
if (!order) throw new Error(`${traces} has no order whose card was declined: run make demo`);

await withBrowser(async (browser) => {
  for (const colorScheme of ["light", "dark"]) {
    const { page } = await open(browser, `${traces}/#/trace/${order}`, { viewport, deviceScaleFactor, colorScheme });
    await page.locator(".row").first().waitFor();
    // From the innermost outwards: fold every function below which there is no other.
    for (const row of (await page.locator(".row").all()).reverse()) {
      const label = row.locator(".label");
      if (await row.isHidden() || !(await label.locator(".function").count())) continue;
      const before = await page.locator(".row:visible .function").count();
      await label.press("ArrowLeft");
      if (await page.locator(".row:visible .function").count() < before) await label.press("ArrowRight");
    }
    await page.evaluate(() => document.activeElement.blur());
    // As WebP, which Playwright does not offer: the same picture without loss as PNG takes five times the room.
    const height = await page.evaluate(() => document.documentElement.scrollHeight);
    const devtools = await page.context().newCDPSession(page);
    const { data } = await devtools.send("Page.captureScreenshot", {
      format: "webp", quality: 100, captureBeyondViewport: true, clip: { x: 0, y: 0, width: viewport.width, height, scale: 1 },
    });
    writeFileSync(`${docs}order-trace-${colorScheme}.webp`, Buffer.from(data, "base64"));
    await page.close();
  }
});
console.log(`docs/order-trace-light.webp and docs/order-trace-dark.webp show the trace ${order}`);
