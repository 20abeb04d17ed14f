/* Holds: amounts that wait to be captured, and those that have ended. */

import { get, getPage, query } from "./api.js";
import { subtract } from "./amounts.js";
import { changeButton, openChange } from "./change.js";
import { amount, badge, data, facts, field, fromNow, h, pretty, table, time } from "./dom.js";
import { account, currencies, sides } from "./names.js";
import { card, cursor, pager, searchForm } from "./page.js";

const LIMIT = 50;
const MOST_CAPTURES = 100;
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
  const filter = status === ENDING ? () => ({ status: "open", expires_before: fromNow(3600) }) : () => ({ status });
  const part = page.part(
    async (signal) => {
      const known = await currencies(signal);
      const parameters = {
        order: "desc",
        limit: LIMIT,
        account: asked("account"),
        reference: asked("reference"),
        ...filter(),
        ...cursor(page),
      };
      return [await getPage(`holds${query(parameters)}`, signal), known];
    },
    ([
      {
        found: { Holds = [] },
        links,
      },
      known,
    ]) => [drawHolds(page, Holds, known, links.next), pager(page, links, part)],
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
          "either side",
        ),
        field(
          "Reference",
          h("input", { name: "reference", value: asked("reference"), maxlength: "255", autocomplete: "off" }),
        ),
      ],
      () => part.load(),
    ),
    card(
      status === ENDING ? "Holds that end within the hour" : "Holds",
      h("span", { class: "hint" }, "newest first"),
      part.element,
    ),
  );
}

function drawHolds(page, holds, known, hasNext) {
  return table({
    label: "Holds",
    columns: [
      { title: "Hold", cell: (hold) => h("a", { href: `#/hold/${hold.ID}` }, String(hold.ID)) },
      { title: "Status", cell: (hold) => badge(hold.Status) },
      {
        title: "Buyer → seller",
        cell: ({ BuyerAccountID, SellerAccountID }) => sides(page, BuyerAccountID, SellerAccountID),
      },
      { title: "Amount", amount: (hold) => hold.Amount },
      { title: "Captured", amount: (hold) => hold.CapturedAmount },
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
  const left = subtract(hold.Amount, hold.CapturedAmount ?? "0");
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
        [hold.Status === "expired" ? "Expired" : "Expires", time(hold.ExpiresAt)],
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
    about: h("p", {}, "The buyer pays the seller. Still held: ", amount(left, currency), "."),
    fields: [
      field(
        `Amount (${currency})`,
        h("input", { name: "amount", value: left, inputmode: "decimal", autocomplete: "off" }),
        "Empty: all that is left",
      ),
      checkbox("keep", "Keep the rest held, for further captures"),
    ],
    request: ({ elements }) => ({
      path: `hold/${ID}/capture`,
      body: {
        ...(elements.amount.value.trim() && { Amount: elements.amount.value.trim() }),
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
    about: h("p", {}, "Releases ", amount(left, currency), " to the buyer, without a payment. This cannot be undone."),
    request: () => ({ path: `hold/${ID}/void`, body: {} }),
    done: (answer) =>
      h("p", {}, h("a", { href: `#/hold/${answer.ID}` }, `Hold ${answer.ID}`), " is ", badge(answer.Status), "."),
  });
}

/** A checkbox with its label after it. */
export function checkbox(name, label, attributes = {}) {
  const control = h("input", { type: "checkbox", name, ...attributes });
  return h("label", { class: "check" }, control, " ", label);
}
