// Opens the documentation page in a real browser, signs in, tries calls and reads what the system really answered.
// Usage: node docs.mjs <address of the API> <e-mail> <password> [<picture to leave behind>]
// Fails on anything that the browser complains of: a console error, a script that throws, a request that fails, something
// that the page's Content-Security-Policy forbids.
// The browser is the one that CHROMIUM names, or the one that infra/local/bootstrap has found or installed.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [api, email, password, picture] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM || fileURLToPath(new URL("../../.local/browser/chromium", import.meta.url));
if (!existsSync(executablePath)) throw new Error(`${executablePath} is missing: run infra/local/bootstrap test`);
// As root, as in CI, Chromium has no sandbox; the rest keeps it from asking its makers for anything. Playwright itself keeps
// it from /dev/shm, which may be small.
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
args.push("--disable-background-networking", "--disable-component-update", "--disable-sync");

const browser = await chromium.launch({ executablePath, args, headless: true });
const complaints = [];
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 1000 } });
  page.setDefaultTimeout(20_000);
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
  const asked = new Set();
  page.on("request", (request) => asked.add(new URL(request.url()).origin));

  await page.goto(`${api}/docs`);
  await page.getByText("Posts of users.").waitFor();

  // Each call below is made by a click on Execute; what comes back is read from the page.
  const operation = (id) => page.locator(`[id$="-${id}"]`);
  const open = async (id) => {
    await operation(id).locator(".opblock-summary-control").click();
    await operation(id).locator(".execute").waitFor();
    return operation(id);
  };
  const execute = async (block) => {
    await block.locator(".execute").click();
    const live = block.locator(".live-responses-table .response").first();
    await live.waitFor();
    const status = Number((await live.locator(".response-col_status").innerText()).trim().split(/\s/)[0]);
    const body = await live.locator(".highlight-code code").first().innerText();
    return { status, body: JSON.parse(body) };
  };

  const wrong = page.locator("#sign-in");
  await wrong.getByLabel("E-mail").fill(email);
  await wrong.getByLabel("Password").fill("not the password at all");
  await wrong.getByRole("button").click();
  await page.locator("#message.refused").waitFor();
  // The browser notes every answer that is an error, this one as well.
  const noted = complaints.splice(0);
  assert.equal(noted.length, 1, noted.join("\n"));
  assert.match(noted[0], /400 \(Bad Request\)/);

  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator("#who").getByText(email).waitFor();

  const register = await open("registerUser");
  const registered = await execute(register);
  assert.equal(registered.status, 201, JSON.stringify(registered));
  assert.deepEqual([registered.body.name, registered.body.email], ["Ara", email]);

  const write = await open("createPost");
  const written = await execute(write);
  assert.equal(written.status, 201, JSON.stringify(written));
  assert.equal(written.body.title, "Spring");

  const read = await open("getPost");
  await read.locator('[data-param-name="id"] input').fill(written.body.id);
  assert.deepEqual(await execute(read), { status: 200, body: written.body });

  if (picture) await page.screenshot({ path: picture });

  assert.deepEqual([...asked], [new URL(api).origin], "the page asks this deployment and nobody else");
  assert.deepEqual(complaints, []);
  console.log(`The page was opened, signed in on, and three calls were tried: post ${written.body.id}`);
} catch (error) {
  console.error(complaints.join("\n"));
  throw error;
} finally {
  await browser.close();
}
