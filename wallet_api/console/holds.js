/* Holds: amounts that wait to be captured, and those that have ended. */

import { get, getPage, query } from "./api.js";
import { subtract } from "./amounts.js";
import { changeButton, openChange } from "./change.js";
import { amount, badge, checkbox, data, facts, field, fromNow, h, pretty, table, time } from "./dom.js";
import { account, currencies, sides } from "./names.js";
import { card, cursor, pager, searchForm } from "./page.js";

const LIMIT = 50;
const MOST_CAPTURES = 100;
const ENDING_PAGES = 5;
const ENDING = "ending";
const TABS = [
  ["open", "Open"],
  [ENDING, "Ending soon"],
  ["captured", "Captured"],
  ["voided", "Voided"],
  ["expired", "Expired"],
];

export function holdsPage(page) {
  const status = page.query.get("status") ?? "open";
  const asked = (name) => page.query.get(name) ?? "";
  const isEnding = status === ENDING;
  const part = page.part(
    async (signal) => {
      const known = await currencies(signal);
      const filters = { account: asked("account"), reference: asked("reference") };
      if (isEnding) return { ...(await endingHolds(signal, filters)), known };
      const parameters = { order: "desc", limit: LIMIT, status, ...filters, ...cursor(page) };
      const { found, links } = await getPage(`holds${query(parameters)}`, signal);
      return { holds: found.Holds ?? [], links, known };
    },
    ({ holds, links, known, isPart }) => [
      drawHolds(page, holds, known, links?.next, isEnding || status === "open"),
      isPart ? h("p", { class: "hint" }, `Of the first ${holds.length}; there are more.`) : null,
      links ? pager(page, links, part) : null,
    ],
  );
  const tab = ([value, label]) =>
    h("li", {}, h("a", { href: `#/holds?status=${value}`, "aria-current": value === status ? "page" : null }, label));
  page.show(
    "Holds",
    h("nav", { class: "tabs", "aria-label": "Holds by status" }, h("ul", {}, TABS.map(tab))),
    searchForm(
      page,
      [
        field(
          "Account ID",
          h("input", { name: "account", value: asked("account"), inputmode: "numeric", autocomplete: "off" }),
          "on either side",
        ),
        field(
          "Reference",
          h("input", { name: "reference", value: asked("reference"), maxlength: "255", autocomplete: "off" }),
          "exact",
        ),
      ],
      () => part.load(),
    ),
    card(
      isEnding ? "Holds that end within the hour" : "Holds",
      h("span", { class: "hint" }, isEnding ? "soonest first" : "newest first"),
      part.element,
    ),
  );
}

/** What is still held of a hold, or was when it ended. */
export const leftOf = (hold) => subtract(hold.Amount, hold.CapturedAmount ?? "0");

/** Open holds that expire within the hour, soonest first. They come by ID: the first to expire may be on any page. */
export async function endingHolds(signal, filters = {}) {
  const holds = [];
  let parameters = { status: "open", expires_before: fromNow(3600), limit: 100, ...filters };
  for (let pages = 0; parameters && pages < ENDING_PAGES; pages += 1) {
    const { found, links } = await getPage(`holds${query(parameters)}`, signal);
    holds.push(...(found.Holds ?? []));
    parameters = links.next;
  }
  holds.sort((a, b) => (a.ExpiresAt < b.ExpiresAt ? -1 : 1));
  return { holds, isPart: parameters !== undefined };
}

function drawHolds(page, holds, known, hasNext, areOpen) {
  return table({
    label: "Holds",
    columns: [
      { title: "Hold", cell: (hold) => h("a", { href: `#/hold/${hold.ID}` }, String(hold.ID)) },
      { title: "Status", cell: (hold) => badge(hold.Status) },
      {
        title: "Buyer → seller",
        class: "names",
        cell: ({ BuyerAccountID, SellerAccountID }) => sides(page, BuyerAccountID, SellerAccountID),
      },
      { title: "Amount", amount: (hold) => hold.Amount },
      areOpen ? { title: "Still held", amount: leftOf } : { title: "Captured", amount: (hold) => hold.CapturedAmount },
      { title: "Currency", isUnit: true, cell: (hold) => data(known.get(String(hold.CurrencyID))) },
      { title: "Created", cell: (hold) => time(hold.OperationTimestamp) },
      { title: "Expires", cell: (hold) => time(hold.ExpiresAt) },
      { title: "Reference", cell: (hold) => data(hold.Reference) },
    ],
    rows: holds,
    empty: hasNext ? "No hold on this page. The next one may have some." : "No holds.",
  });
}

export function holdPage(page, id) {
  const part = page.part(
    async (signal) => {
      const [hold, captures, known] = await Promise.all([
        get(`hold/${id}${query({ made_by: "true" })}`, signal),
        getPage(`payments${query({ hold: id, limit: MOST_CAPTURES })}`, signal),
        currencies(signal),
      ]);
      return { hold, captures, currency: known.get(String(hold.CurrencyID)) ?? "" };
    },
    (found) => {
      page.retitle(`Hold ${found.hold.ID}`, `Hold ${found.hold.ID} `, badge(found.hold.Status));
      return drawHold(page, found);
    },
  );
  page.show(`Hold ${id}`, part.element);
}

function drawHold(page, { hold, captures, currency }) {
  const left = leftOf(hold);
  const isOpen = hold.Status === "open";
  const actions =
    isOpen &&
    h(
      "div",
      { class: "actions" },
      changeButton("Capture…", { id: "capture", onclick: () => capture(page, hold, left, currency) }),
      changeButton("Void…", { id: "void", onclick: () => voidHold(page, hold, left, currency) }),
    );
  return h(
    "div",
    { class: "stack" },
    card(
      "Reserved amount",
      actions || null,
      facts(
        ["Buyer", account(hold.BuyerAccountID, page.signal)],
        ["Seller", account(hold.SellerAccountID, page.signal)],
        ["Amount", amount(hold.Amount, currency)],
        ["Captured", amount(hold.CapturedAmount ?? "0", currency)],
        [isOpen ? "Still held" : "Released", amount(left, currency)],
        ["Created", time(hold.OperationTimestamp)],
        [isOpen ? "Expires" : "Expired", isOpen || hold.Status === "expired" ? time(hold.ExpiresAt) : null],
        ["Description", data(hold.Description)],
        ["Reference", data(hold.Reference)],
        ["Buyer may void", hold.BuyerMayVoid ? "yes" : null],
        ["Made by", data(hold.MadeBy) ?? h("span", { class: "hint" }, "not shown to this key")],
        ["Ended by", data(hold.EndedBy)],
        ["Metadata", hold.Metadata && h("pre", {}, pretty(hold.Metadata))],
      ),
    ),
    card(
      "Captures",
      null,
      table({
        label: "Captures",
        columns: [
          { title: "Time", cell: (row) => time(row.OperationTimestamp) },
          { title: "Payment", cell: (row) => h("a", { href: `#/payment/${row.ID}` }, `Payment ${row.ID}`) },
          { title: `Amount (${currency})`, amount: (row) => row.Amount },
        ],
        rows: captures.found.Payments ?? [],
        empty: "Nothing was captured.",
      }),
      captures.links.next ? h("p", { class: "hint" }, `The first ${MOST_CAPTURES}.`) : null,
    ),
  );
}

function capture(page, { ID }, left, currency) {
  openChange(page, {
    title: `Capture hold ${ID}`,
    action: "Capture",
    about: h(
      "p",
      {},
      "The buyer pays the seller. The rest is released, unless you keep it held. Still held: ",
      amount(left, currency),
      ".",
    ),
    fields: [
      field(
        `Amount (${currency})`,
        h("input", { name: "amount", value: left, required: true, inputmode: "decimal", autocomplete: "off" }),
        "For example 12.50",
      ),
      checkbox("keep", "Keep the rest held, for further captures"),
    ],
    request: ({ elements }) => ({
      path: `hold/${ID}/capture`,
      body: {
        Amount: elements.amount.value.trim(),
        ...(elements.keep.checked && { Final: false }),
      },
    }),
    done: (answer) =>
      h(
        "p",
        {},
        "Captured ",
        amount(answer.Amount, currency),
        ": ",
        h("a", { href: `#/payment/${answer.ID}` }, `Payment ${answer.ID}`),
        ".",
      ),
  });
}

function voidHold(page, { ID }, left, currency) {
  openChange(page, {
    title: `Void hold ${ID}`,
    action: "Void hold",
    about: h("p", {}, "Releases ", amount(left, currency), " to the buyer, without a payment. This cannot be undone."),
    request: () => ({ path: `hold/${ID}/void`, body: {} }),
    done: (answer) =>
      h("p", {}, h("a", { href: `#/hold/${answer.ID}` }, `Hold ${answer.ID}`), " is ", badge(answer.Status), "."),
  });
}
