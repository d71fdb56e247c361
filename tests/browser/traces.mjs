// Opens the page of traces in a real browser, as a developer does who looks for an order.
// Usage: node traces.mjs <address of the page> <id of a confirmed order>
// Fails on anything that the browser complains of.
import assert from "node:assert/strict";
import { NARROW, WIDE, assertFits, assertFocusIsSeen, assertFollowsTheme, open, violations, withBrowser } from "./browser.mjs";

const [traces, order] = process.argv.slice(2);

// Every check that holds for whatever is shown.
async function assertLooksRight(page) {
  await assertFollowsTheme(page);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await violations(page), [], `in the ${colorScheme} theme`);
  }
  await page.setViewportSize(NARROW);
  await assertFits(page);
  await page.setViewportSize(WIDE);
}

await withBrowser(async (browser) => {
  const { page, complaints, origins } = await open(browser, traces);

  // The list shows requests. What it hides is counted, and one click away.
  const names = () => page.locator(".traces .name").allInnerTexts();
  await page.getByText(/queue or stream polls?\b.*hidden/).waitFor();
  assert.equal(await page.title(), "Latest traces · Madang traces");
  assert.ok((await names()).some((name) => /^(GET|POST|PUT|PATCH|DELETE) \//.test(name)), "requests are listed");
  assert.ok(!(await names()).includes("GET /docs"), "loading the documentation is not listed");
  await assertLooksRight(page);
  await page.getByRole("link", { name: "show", exact: true }).click();
  await page.getByRole("link", { name: "hide", exact: true }).waitFor();
  await page.locator(".traces .name", { hasText: /^(queue|stream)$/ }).first().waitFor();
  assert.equal(await page.title(), "All traces · Madang traces");
  await page.getByRole("link", { name: "hide", exact: true }).click();
  await page.getByText(/hidden ·/).waitFor();

  // A list that is drawn anew leaves the focus where it was.
  const link = page.locator(".traces a").first(), href = await link.getAttribute("href");
  await page.keyboard.press("Tab");
  await link.focus();
  await assertFocusIsSeen(page);
  await page.route("**/api/receiver", async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, json: { ...(await answer.json()), spans: 123_456 } });
  });
  await page.getByText("123,456 spans").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("href")), href);
  await page.unroute("**/api/receiver");

  // The order's id finds every request that names the order.
  await page.getByRole("searchbox").fill(order);
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("heading", { name: `traces with the id ${order}` }).waitFor();
  assert.ok((await names()).includes("GET /orders/{id}"), "the order was read, too");
  await page.getByRole("link", { name: "POST /orders", exact: true }).click();
  await page.getByRole("heading", { name: "orders-place POST /orders" }).waitFor();
  assert.equal(await page.title(), "orders-place POST /orders · Madang traces");
  const rows = page.locator(".row:visible");
  // The spans of the last steps arrive when their invocations end.
  for (let tries = 0; !(await rows.filter({ hasText: "payments-capture" }).count()); tries += 1) {
    assert.ok(tries < 50, "the trace reaches the last step of the saga");
    await page.reload();
    await page.waitForTimeout(200);
  }
  assert.ok(await page.locator(".facts").getByRole("link", { name: order }).count(), "the order's id is shown");
  await assertLooksRight(page);

  // By the keyboard: fold the first span's tree, unfold it, go down, open and close what is known of a span.
  const all = await rows.count();
  await page.locator(".row .label").first().focus();
  await page.keyboard.press("ArrowLeft");
  assert.equal(await rows.count(), 1, "what the first span led to is folded");
  await page.keyboard.press("ArrowRight");
  assert.equal(await rows.count(), all);
  await page.keyboard.press("ArrowDown");
  await assertFocusIsSeen(page);
  const second = page.locator(".row .label").nth(1);
  assert.ok(await second.evaluate((one) => one === document.activeElement), "the second span has the focus");
  await page.keyboard.press("Enter");
  assert.equal(await second.getAttribute("aria-expanded"), "true");
  await page.locator(".details:visible").getByText("began after").waitFor();
  await assertLooksRight(page);
  await page.keyboard.press("Space");
  assert.equal(await page.locator(".details:visible").count(), 0);
  // And by the mouse.
  const fold = page.locator(".row .fold").first();
  await fold.click();
  assert.deepEqual([await rows.count(), await fold.getAttribute("aria-expanded")], [1, "false"]);
  assert.equal(await page.locator(".details:visible").count(), 0, "a click that folds opens nothing");

  // What there is to see when there is nothing, and when nobody answers.
  await page.getByRole("searchbox").fill(crypto.randomUUID());
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "No trace with the id" }).waitFor();
  await page.route("**/api/traces?*", (route) => route.fulfill({ json: { items: [], hidden: { scheduled_runs: 1 } } }));
  await page.goto(`${traces}/#/`);
  await page.getByText("No request has arrived yet.").waitFor();
  await page.getByText("1 idle scheduled run hidden").waitFor();
  assert.deepEqual(complaints, []);
  await page.route("**/api/traces?*", (route) => route.abort());
  await page.getByRole("alert").getByText("run “make up”").waitFor();
  await page.unroute("**/api/traces?*");
  await page.getByText(/queue or stream polls?\b.*hidden/).waitFor();

  assert.deepEqual([...origins], [new URL(traces).origin]);
  console.log(`The order ${order} was found among the latest traces, and read by the keyboard`);
});
