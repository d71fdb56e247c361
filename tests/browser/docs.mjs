// Opens the documentation page in a real browser, signs in, tries calls, reads what the system really answered, and looks
// at how the page is shown.
// Usage: node docs.mjs <address of the API> <e-mail> <password> [<picture to leave behind>]
// Fails on anything that the browser complains of.
import assert from "node:assert/strict";
import {
  NARROW, assertFits, assertFocusIsSeen, assertFollowsTheme, assertTheme, open as openPage, violations, withBrowser,
} from "./browser.mjs";

const [api, email, password, picture] = process.argv.slice(2);

await withBrowser(async (browser) => {
  const { page, complaints, origins } = await openPage(browser, `${api}/docs`);
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

  // The viewer shows the same kind of box for errors and for warnings.
  assert.equal(await page.locator(".errors-wrapper").count(), 0, "the viewer warns of nothing");

  await page.emulateMedia({ reducedMotion: "reduce" });
  const moving = await page.evaluate(() => [...document.querySelectorAll("*")].filter((one) => getComputedStyle(one).transitionDuration !== "0s").length);
  assert.equal(moving, 0, "nothing moves for those who want less motion");

  const { page: opened } = await openPage(browser, `${api}/docs`, { colorScheme: "dark" });
  await assertTheme(opened, "dark");
  await opened.close();
  await assertFollowsTheme(page);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await violations(page, { rules: ["color-contrast"] }), [], `contrast in the ${colorScheme} theme`);
    // The rest of the page is the viewer's.
    assert.deepEqual(await violations(page, { within: "header" }), []);
  }
  await page.setViewportSize(NARROW);
  await assertFits(page);
  await page.evaluate(() => scrollTo(0, 0));
  await page.locator("#sign-out").focus();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Shift+Tab");
  await assertFocusIsSeen(page);

  if (picture) await page.screenshot({ path: picture });

  assert.deepEqual([...origins], [new URL(api).origin], "the page asks this deployment and nobody else");
  assert.deepEqual(complaints, []);
  console.log(`The page was opened, signed in on, and three calls were tried: post ${written.body.id}`);
});
