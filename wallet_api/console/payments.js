/* Payments: who paid whom. A payment: both sides, its refunds, and a refund of all or a part. */

import { Refused, get, getPage, query } from "./api.js";
import { subtract } from "./amounts.js";
import { changeButton, openChange } from "./change.js";
import { amount, badge, data, facts, field, h, pretty, select, table, time, timeInput } from "./dom.js";
import { account, currencies, offerCurrencies, sides } from "./names.js";
import { card, cursor, pager, searchFor, searchForm } from "./page.js";
import { explain } from "./statement.js";

const LIMIT = 50;
const MOST_REFUNDS = 100;
const MORE_FILTERS = ["account", "buyer", "seller", "currency", "min", "max", "reference"];
const FILTERS = ["from", "to", ...MORE_FILTERS];

export function paymentsPage(page) {
  const asked = (name) => page.query.get(name) ?? "";
  const choice = select("currency", [["", "any"]]);
  const text = (name, attributes = {}) => h("input", { name, value: asked(name), autocomplete: "off", ...attributes });
  const part = page.part(
    async (signal) => {
      offerCurrencies(choice, await currencies(signal), asked("currency"));
      const filters = Object.fromEntries(FILTERS.map((name) => [name, asked(name)]));
      return getPage(`payments${query({ order: "desc", limit: LIMIT, ...filters, ...cursor(page) })}`, signal);
    },
    ({ found: { Payments = [] }, links }) => [drawPayments(page, Payments, links.next), pager(page, links, part)],
  );
  const form = searchForm(
    page,
    [
      field("From", timeInput("from", asked("from")), "UTC"),
      field("To", timeInput("to", asked("to")), "UTC, before this time"),
      moreFilters(
        MORE_FILTERS.some((name) => asked(name) !== ""),
        field("Account ID", text("account", { inputmode: "numeric" }), "on either side"),
        field("Buyer ID", text("buyer", { inputmode: "numeric" }), "the account that pays"),
        field("Seller ID", text("seller", { inputmode: "numeric" }), "the account that is paid"),
        field("Currency", choice),
        field("Minimum amount", text("min", { inputmode: "decimal" }), "for example 12.50"),
        field("Maximum amount", text("max", { inputmode: "decimal" }), "for example 12.50"),
        field("Reference", text("reference", { maxlength: "255" }), "exact"),
      ),
    ],
    () => part.load(),
    periods((from, to) => searchFor(form, { from, to })),
  );
  page.show("Payments", form, card("Payments", h("span", { class: "hint" }, "newest first"), part.element));
}

/** Fields that a narrow window folds, unless one of them has a value: else the payments begin below the first screen. */
function moreFilters(areUsed, ...fields) {
  const open = areUsed || matchMedia("(min-width: 601px)").matches;
  return h("details", { class: "more-filters", open }, h("summary", {}, "More filters"), h("div", {}, fields));
}

/** Buttons that choose whole days, in UTC. */
function periods(choose) {
  const day = (offset) => `${new Date(Date.now() + offset * 86400e3).toISOString().slice(0, 10)}T00:00:00`;
  const button = (label, from, to) => h("button", { type: "button", onclick: () => choose(day(from), day(to)) }, label);
  return [button("Today", 0, 1), button("Yesterday", -1, 0), button("Last 7 days", -6, 1)];
}

function drawPayments(page, payments, hasNext) {
  return table({
    label: "Payments",
    columns: [
      { title: "Time", cell: (row) => time(row.OperationTimestamp) },
      {
        title: "Buyer → seller",
        class: "names",
        cell: ({ BuyerAccountID, SellerAccountID }) => sides(page, BuyerAccountID, SellerAccountID),
      },
      { title: "Amount", amount: (row) => row.Amount },
      { title: "Currency", isUnit: true, cell: (row) => data(row.CurrencyName) },
      { title: "Payment", cell: (row) => h("a", { href: `#/payment/${row.ID}` }, String(row.ID)) },
      { title: "What for", class: "text", cell: explain },
    ],
    rows: payments,
    empty: hasNext ? "No payment on this page. The next one may have some." : "No payment matches.",
  });
}

export function paymentPage(page, id) {
  const part = page.part(
    async (signal) => {
      const payment = await get(`payment/${id}${query({ made_by: "true" })}`, signal);
      const refunds = await getPage(`payments${query({ refunded: id, limit: MOST_REFUNDS })}`, signal);
      const hold = payment.HoldID === undefined ? null : await optional(get(`hold/${payment.HoldID}`, signal));
      return { payment, refunds, hold };
    },
    (found) => drawPayment(page, found),
  );
  page.show(`Payment ${id}`, part.element);
}

/** What another part of the page can do without, if this API key may not read it. */
async function optional(asked) {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Refused && (error.status === 403 || error.status === 404)) return null;
    throw error;
  }
}

function drawPayment(page, { payment, refunds, hold }) {
  const { Amount, CurrencyName: currency, RefundedAmount = "0" } = payment;
  const left = subtract(Amount, RefundedAmount);
  const isRefund = payment.RefundedPaymentID !== undefined;
  const made = refunds.found.Payments ?? [];
  return h(
    "div",
    { class: "stack" },
    card(
      "Who paid whom",
      left === "0"
        ? badge("refunded")
        : changeButton("Refund…", { id: "refund", onclick: () => refund(page, payment, left) }),
      facts(
        ["Buyer", account(payment.BuyerAccountID, page.signal)],
        ["Seller", account(payment.SellerAccountID, page.signal)],
        ["Amount", amount(Amount, currency)],
        ["Time", time(payment.OperationTimestamp)],
        ["Description", data(payment.Description)],
        ["Reference", data(payment.Reference)],
        ["Refunded so far", amount(RefundedAmount, currency)],
        ["Left to refund", amount(left, currency)],
        ["Made by", data(payment.MadeBy) ?? h("span", { class: "hint" }, "not shown to this key")],
        [
          "Refund of",
          isRefund
            ? h("a", { href: `#/payment/${payment.RefundedPaymentID}` }, `Payment ${payment.RefundedPaymentID}`)
            : null,
        ],
        ["Capture of", payment.HoldID === undefined ? null : holdLink(payment.HoldID, hold, currency)],
        ["Metadata", payment.Metadata && h("pre", {}, pretty(payment.Metadata))],
      ),
    ),
    card(
      "Refunds",
      null,
      table({
        label: "Refunds",
        columns: [
          { title: "Time", cell: (row) => time(row.OperationTimestamp) },
          { title: "Payment", cell: (row) => h("a", { href: `#/payment/${row.ID}` }, `Payment ${row.ID}`) },
          { title: `Amount (${currency})`, amount: (row) => row.Amount },
          { title: "Description", class: "text", cell: (row) => data(row.Description) },
        ],
        rows: made,
        empty: "Nothing was refunded.",
      }),
      refunds.links.next ? h("p", { class: "hint" }, `The first ${MOST_REFUNDS}.`) : null,
    ),
  );
}

function holdLink(id, hold, currency) {
  return [
    h("a", { href: `#/hold/${id}` }, `Hold ${id}`),
    ...(hold ? [" of ", amount(hold.Amount, currency), " ", badge(hold.Status)] : []),
  ];
}

function refund(page, payment, left) {
  const { ID, CurrencyName } = payment;
  openChange(page, {
    title: `Refund payment ${ID}`,
    action: "Refund",
    about: h("p", {}, "The seller pays it back to the buyer. Left to refund: ", amount(left, CurrencyName), "."),
    fields: [
      field(
        `Amount (${CurrencyName})`,
        h("input", { name: "amount", value: left, required: true, inputmode: "decimal", autocomplete: "off" }),
        "For example 12.50",
      ),
      field("Description", h("input", { name: "description", maxlength: "255", autocomplete: "off" }), "Optional"),
    ],
    request: ({ elements }) => ({
      path: `payment/${ID}/refund`,
      body: {
        Amount: elements.amount.value.trim(),
        ...(elements.description.value && { Description: elements.description.value }),
      },
    }),
    done: (answer) =>
      h(
        "p",
        {},
        "Refunded ",
        amount(answer.Amount, CurrencyName),
        ": ",
        h("a", { href: `#/payment/${answer.ID}` }, `Payment ${answer.ID}`),
        ".",
      ),
  });
}
