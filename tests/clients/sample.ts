// Uses the client of docs/clients.md as a shop would. Arguments: the URL, the buyer, the seller.
import assert from "node:assert/strict";
import type { Middleware } from "openapi-fetch";
import { pay, paymentsOf, Refused, settle, wallet } from "./client.js";

const [buyer, seller] = process.argv.slice(2).map(Number) as [number, number];
const request = { BuyerAccountID: buyer, SellerAccountID: seller, Amount: "0.1" };

const key = crypto.randomUUID();
const payment = await pay(key, request);
assert.equal(payment.Amount, "0.1");
assert.deepEqual(await pay(key, request), payment);
await assert.rejects(pay(crypto.randomUUID(), { ...request, Amount: "1e9" }), (problem) => {
  assert.ok(problem instanceof Refused);
  assert.equal(problem.code, "WB006");
  return true;
});
// @ts-expect-error An amount is a string.
void (() => pay(key, { ...request, Amount: 0.1 }));

const hold = await wallet.POST("/holds", { body: { ...request, Metadata: { order: 17 } } });
assert.deepEqual(hold.data?.Metadata, { order: 17 });
const path = { id: hold.data!.ID };
const capture = () =>
  settle(`capture ${path.id}`, (header, signal) =>
    wallet.POST("/hold/{id}/capture", { params: { path, header }, signal }),
  );
assert.equal((await capture()).Amount, "0.1");
assert.deepEqual(await capture(), await capture());
const refund = await wallet.POST("/payment/{id}/refund", { params: { path: { id: payment.ID } }, body: { Amount: "0.01" } });
assert.equal(refund.data?.RefundedPaymentID, payment.ID);

const amounts: string[] = [];
for await (const { Amount } of paymentsOf(buyer)) amounts.push(Amount);
assert.deepEqual(amounts, ["0.01", "0.1", "0.1"]);

/** What `pay` throws if each request meets a fault; the two minutes of its tries are over after the first one. */
async function thrown(fault: () => Response, key = crypto.randomUUID() as string): Promise<Error> {
  const now = Date.now;
  const network: Middleware = {
    onRequest() {
      Date.now = () => now() + 121_000;
      return fault();
    },
  };
  wallet.use(network);
  try {
    await pay(key, request);
  } catch (problem) {
    assert.ok(problem instanceof Error);
    return problem;
  } finally {
    wallet.eject(network);
    Date.now = now;
  }
  assert.fail("It was paid.");
}

const empty = { headers: { "Content-Length": "0" } };
const strange = [400, 403, 404].map((status) => () => new Response("<html>", { status }));
for (const answer of [...strange, () => new Response(null, { status: 204 }), () => new Response("", empty)]) {
  const problem = await thrown(answer);
  assert.ok(!(problem instanceof Refused), "An answer that is not Wallet's leaves the order open.");
  assert.match(problem.message, new RegExp(`^${answer().status} `));
}
for (const [status, code] of [[401, "WA001"], [403, "WF001"]] as const) {
  const problem = await thrown(() => Response.json({ Error: "" }, { status, headers: { "Error-Code": code } }));
  assert.ok(!(problem instanceof Refused), "Another API key can pay the order.");
  assert.match(problem.message, new RegExp(`^${status} ${code}`));
}
const broken = new Error("broken connection");
const unanswered = () => {
  throw broken;
};
assert.equal((await thrown(unanswered)).cause, broken);
const busy = await thrown(() => new Response("<html>", { status: 502 }));
assert.match(String(busy.cause), /502/);
assert.ok((await thrown(unanswered, "ключ")) instanceof TypeError, "A key that cannot be a header is never sent.");
console.log("The TypeScript client pays, repeats, captures, refunds and lists.");
