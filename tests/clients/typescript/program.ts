// What somebody would write who builds on the API: it signs in, posts, comments and orders. Every path, field and answer
// below is checked by the compiler against what was generated from infra/openapi.json; nothing is written by hand around
// the generator's output.
// Usage: node built/program.js <address of the API> <address of Cognito> <id of the client> <e-mail> <password> <SKU>
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/api.js";

type Order = components["schemas"]["Order"];

const [api, cognito, client, email, password, sku] = process.argv.slice(2);
assert(api && cognito && client && email && password && sku, "six arguments");

const signedIn = await fetch(cognito, {
  method: "POST",
  headers: {
    "content-type": "application/x-amz-json-1.1",
    "x-amz-target": "AWSCognitoIdentityProviderService.InitiateAuth",
  },
  body: JSON.stringify({
    AuthFlow: "USER_PASSWORD_AUTH",
    ClientId: client,
    AuthParameters: { USERNAME: email, PASSWORD: password },
  }),
});
const { AuthenticationResult: tokens } = (await signedIn.json()) as { AuthenticationResult: { AccessToken: string } };

const madang = createClient<paths>({ baseUrl: api, headers: { authorization: `Bearer ${tokens.AccessToken}` } });

// The same key in every try: the request is carried out once.
const once = () => ({ "Idempotency-Key": randomUUID() });

// Waits for what an event brings about elsewhere.
async function eventually<T>(what: string, probe: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < 300; tries++) {
    const found = await probe();
    if (found !== undefined) return found;
    await pause(200);
  }
  throw new Error(`not within a minute: ${what}`);
}

const registered = await madang.POST("/users", { params: { header: once() }, body: { name: "Ara" } });
assert(registered.data, JSON.stringify(registered.error));
assert.equal(registered.data.email, email);

const draft = { title: "Spring", body: "It rains." };
const key = once();
const posted = await madang.POST("/posts", { params: { header: key }, body: draft });
assert(posted.data, JSON.stringify(posted.error));
const repeated = await madang.POST("/posts", { params: { header: key }, body: draft });
assert.deepEqual(repeated.data, posted.data);
const post = posted.data;

const comment = await eventually("the post can be commented on", async () => {
  const path = { id: post.id };
  const { data, error, response } = await madang.POST("/posts/{id}/comments", {
    params: { path, header: once() },
    body: { body: "So do I." },
  });
  assert(data || response.status === 404, JSON.stringify(error));
  return data;
});
const comments = await madang.GET("/posts/{id}/comments", { params: { path: { id: post.id }, query: { limit: 5 } } });
assert.deepEqual(comments.data?.items, [comment]);

const etag = posted.response.headers.get("etag");
assert(etag);
const change = { params: { path: { id: post.id }, header: { "If-Match": etag } }, body: { title: "Summer" } };
assert.equal((await madang.PATCH("/posts/{id}", change)).data?.title, "Summer");
const stale = await madang.PATCH("/posts/{id}", change);
// A problem is data too, and its types are known.
assert(stale.error && "type" in stale.error);
assert.equal(stale.error.type, "urn:madang:problem:stale-version");

const placed = await madang.POST("/orders", {
  params: { header: once() },
  body: { items: [{ sku, quantity: 2 }], payment_method: "pm_card_visa" },
});
assert(placed.data, JSON.stringify(placed.error));
const { id } = placed.data;
const order = await eventually<Order>("the order is settled", async () => {
  const { data } = await madang.GET("/orders/{id}", { params: { path: { id } } });
  return data?.status === "PENDING" ? undefined : data;
});
assert.equal(order.status, "CONFIRMED");
const payment = await eventually("the money is taken", async () => {
  const { data } = await madang.GET("/orders/{id}/payment", { params: { path: { id } } });
  return data?.status === "CAPTURED" ? data : undefined;
});
assert.deepEqual(payment.amount, order.total);

console.log(`Signed in, posted, commented and ordered: order ${id}`);
