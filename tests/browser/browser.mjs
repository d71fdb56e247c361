// What the tests of pages share: the browser, and what holds for every page.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import axe from "axe-core";
import { chromium } from "playwright-core";

export const WIDE = { width: 1280, height: 1000 };
export const NARROW = { width: 390, height: 844 };

// The complaints of every page that was opened.
const opened = [];

// Runs `work` with a browser: the one that CHROMIUM names, or the one that infra/local/bootstrap has found or installed.
export async function withBrowser(work) {
  const executablePath = process.env.CHROMIUM || fileURLToPath(new URL("../../.local/browser/chromium", import.meta.url));
  if (!existsSync(executablePath)) throw new Error(`${executablePath} is missing: run infra/local/bootstrap test`);
  // As root, as in CI, Chromium has no sandbox. The other options keep it from asking its makers for anything. Playwright
  // itself keeps it from /dev/shm, which may be small.
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
  args.push("--disable-background-networking", "--disable-component-update", "--disable-sync");
  const browser = await chromium.launch({ executablePath, args, headless: true });
  try {
    await work(browser);
  } catch (error) {
    console.error(opened.flat().join("\n"));
    throw error;
  } finally {
    await browser.close();
  }
}

// A new page, and everything that the browser complains of while it is open: a console error, a script that throws, a
// request that fails, something that the page's Content-Security-Policy forbids.
export async function open(browser, url, options = {}) {
  const page = await browser.newPage({ viewport: WIDE, ...options });
  page.setDefaultTimeout(20_000);
  const complaints = [];
  opened.push(complaints);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`thrown: ${error.stack}`));
  page.on("requestfailed", (request) => complaints.push(`failed: ${request.url()} ${request.failure()?.errorText}`));
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`forbidden by ${event.violatedDirective}: ${event.blockedURI} ${event.sample} at ${event.sourceFile}:${event.lineNumber}`);
    });
  });
  const origins = new Set();
  page.on("request", (request) => origins.add(new URL(request.url()).origin));
  await page.goto(url);
  return { page, complaints, origins };
}

// What axe-core finds wrong; `rules` and `within` limit what it looks at.
export async function violations(page, { rules, within } = {}) {
  await page.evaluate(axe.source);
  const options = rules ? { runOnly: { type: "rule", values: rules } } : {};
  const found = await page.evaluate(([context, chosen]) => globalThis.axe.run(context, chosen), [within ?? ":root", options]);
  return found.violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")}: ${node.failureSummary}`));
}

// Whatever is wider than the window makes the page scroll sideways.
export async function assertFits(page) {
  const wide = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth === clientWidth) return [];
    return [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > clientWidth)
      .map((one) => `${one.tagName}.${one.className} ends at ${one.getBoundingClientRect().right} of ${clientWidth}`);
  });
  assert.deepEqual(wide, [], page.url());
}

export async function assertFollowsTheme(page) {
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme });
    await assertTheme(page, colorScheme);
  }
}

// A page learns of a theme a moment later.
export async function assertTheme(page, theme) {
  const isSo = theme === "dark" ? (colour) => Math.max(...colour) < 64 : (colour) => Math.min(...colour) > 224;
  let colour;
  for (let tries = 0; !isSo(colour = await background(page)); tries += 1) {
    assert.ok(tries < 50, `the background is ${colour} in a ${theme} theme`);
    await page.waitForTimeout(100);
  }
}

// The colour behind a page, as red, green and blue.
async function background(page) {
  const colour = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  return colour.match(/\d+/g).slice(0, 3).map(Number);
}

// Whether what the keyboard has given the focus has the page's own outline; the browser's is `auto`.
export async function assertFocusIsSeen(page) {
  const [tag, style] = await page.evaluate(() => [document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]);
  assert.notEqual(tag, "BODY", "something has the focus");
  assert.equal(style, "solid", `the outline of ${tag}, which has the focus`);
}
