// Uses the client of docs/clients.md as a shop would. Arguments: the URL, the buyer, the seller.
import assert from "node:assert/strict";
import { pay, paymentsOf, Refused, wallet } from "./client.js";

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
assert.equal((await wallet.POST("/hold/{id}/capture", { params: { path } })).data?.Amount, "0.1");
const refund = await wallet.POST("/payment/{id}/refund", { params: { path: { id: payment.ID } }, body: { Amount: "0.01" } });
assert.equal(refund.data?.RefundedPaymentID, payment.ID);

const amounts: string[] = [];
for await (const { Amount } of paymentsOf(buyer)) amounts.push(Amount);
assert.deepEqual(amounts, ["0.01", "0.1", "0.1"]);
console.log("The TypeScript client pays, repeats, captures, refunds and lists.");
