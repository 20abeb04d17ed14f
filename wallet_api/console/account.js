/* An account: why its balance is what it is. */

import { get, getPage, query } from "./api.js";
import { curveChart } from "./charts.js";
import { amount, badge, data, facts, fromNow, h, pretty, select, shortTime, table, time } from "./dom.js";
import { leftOf } from "./holds.js";
import { account, learn } from "./names.js";
import { card } from "./page.js";
import { statementCard } from "./statement.js";

const PERIODS = [
  ["1", "24 hours"],
  ["7", "7 days"],
  ["30", "30 days"],
  ["all", "all"],
];
const ABILITIES = {
  active: "What the account can pay now is its balance, plus its credit limit, minus what open holds reserve.",
  frozen: "The account is frozen: it receives payments, but makes none.",
  blocked: "The account is blocked: it neither receives nor makes payments.",
  closed: "The account is closed: it neither receives nor makes payments.",
};
/* What a page shows beside the account itself. */
const EXTRA = { isExtra: true };
/* Characters of a name that fit into three lines of a heading on a phone. */
const LONG = 60;
const HOLDS = 100;
const CHANGES = 20;

export function accountPage(page, id) {
  const rest = h("div", { class: "columns even compact" });
  let currency = null;
  const head = page.part(
    (signal) => get(`account/${id}${query({ details: "true" })}`, signal),
    (found) => {
      learn(found.ID, found.Name);
      page.retitle(
        found.Name,
        h("bdi", { class: found.Name.length > LONG ? "name long" : "name", title: found.Name }, found.Name),
        ` (#${found.ID}) `,
        badge(found.Status),
      );
      if (currency === null) {
        currency = found.CurrencyName;
        rest.append(...details(page, String(found.ID), currency));
      }
      return drawAccount(found);
    },
  );
  page.show(`Account ${id}`, h("div", { class: "stack" }, head.element, rest));
}

/** What the account has to show once it is known that it exists. */
function details(page, id, currency) {
  return [
    curveCard(page, id, currency),
    h("div", { class: "wide" }, statementCard(page, id, currency)),
    holdsCard(page, id, currency),
    counterpartiesCard(page, id, currency),
    changesCard(page, id, currency),
  ];
}

function drawAccount(found) {
  const term = (label, value) => h("div", {}, h("span", { class: "label" }, label), amount(value));
  const sign = (text) => h("span", { class: "sign" }, text);
  return h(
    "section",
    { class: "card", "aria-label": "Amounts" },
    h(
      "p",
      { class: "sum" },
      term("Available", found.Available),
      sign("="),
      term("Balance", found.Amount),
      sign("+"),
      term("Credit limit", found.CreditLimit),
      sign("−"),
      term("Held", found.Held),
      h("span", { class: "sign currency" }, data(found.CurrencyName)),
    ),
    h("p", { class: "hint" }, ABILITIES[found.Status] ?? ABILITIES.active),
    found.Metadata ? facts(["Metadata", h("pre", {}, pretty(found.Metadata))]) : null,
  );
}

function curveCard(page, id, currency) {
  const choice = select("curve", PERIODS, page.query.get("curve") ?? "7", { "aria-label": "Period of the curve" });
  const part = page.part(
    (signal) =>
      get(
        `account/${id}/curve${query({ from: choice.value === "all" ? "" : fromNow(-86400 * choice.value) })}`,
        signal,
      ),
    ({ Points = [] }) =>
      Points.length ? curveChart(Points, currency) : h("p", { class: "empty" }, "No balance in this period."),
    EXTRA,
  );
  choice.addEventListener("change", () => {
    page.push({ curve: choice.value });
    part.load();
  });
  return h("div", { class: "wide" }, card("Balance over time", choice, part.element));
}

function holdsCard(page, id, currency) {
  const isBuyer = (hold) => String(hold.BuyerAccountID) === id;
  const part = page.part(
    (signal) => getPage(`holds${query({ account: id, status: "open", limit: HOLDS })}`, signal),
    ({ found, links }) => [
      table({
        label: "Open holds",
        columns: [
          { title: "Hold", cell: (hold) => h("a", { href: `#/hold/${hold.ID}` }, String(hold.ID)) },
          { title: "Ends", cell: (hold) => shortTime(hold.ExpiresAt) },
          {
            title: "Counterparty",
            cell: (hold) => [
              isBuyer(hold) ? "to " : "from ",
              account(isBuyer(hold) ? hold.SellerAccountID : hold.BuyerAccountID, page.signal),
            ],
          },
          { title: `Amount (${currency})`, amount: (hold) => hold.Amount },
          { title: "Still held", amount: leftOf },
        ],
        rows: found.Holds ?? [],
        empty: "No open holds.",
      }),
      links.next ? h("p", { class: "hint" }, `The first ${HOLDS}.`) : null,
    ],
    EXTRA,
  );
  const all = h("a", { href: `#/holds?status=open&account=${id}` }, "In the list of holds");
  return card("Open holds", all, part.element);
}

function counterpartiesCard(page, id, currency) {
  const part = page.part(
    (signal) => get(`account/${id}/counterparties`, signal),
    ({ Counterparties: rows = [] }) => [
      table({
        label: "Who it trades with",
        columns: [
          { title: "Account", cell: (row) => account(row.AccountID, page.signal, row.Name) },
          { title: "Payments", numeric: true, cell: (row) => String(row.Payments) },
          { title: `Paid (${currency})`, amount: (row) => row.Paid },
          { title: "Received", amount: (row) => row.Received },
          {
            title: "Last payment",
            cell: (row) => h("a", { href: `#/payment/${row.LastPaymentID}` }, shortTime(row.OperationTimestamp)),
          },
        ],
        rows,
        empty: "It has no payments.",
      }),
      rows[0]?.Since ? h("p", { class: "hint" }, "Of its newest payments, since ", time(rows[0].Since), ".") : null,
    ],
    EXTRA,
  );
  return card("Who it trades with", null, part.element);
}

function changesCard(page, id, currency) {
  const part = page.part(
    (signal) => getPage(`account/${id}/changes${query({ made_by: "true", order: "desc", limit: CHANGES })}`, signal),
    ({ found: { Changes: rows = [] }, links }) => [
      table({
        label: "Changes of status and credit limit",
        columns: [
          { title: "Since", cell: (row) => time(row.ChangedAt) },
          { title: "Status", cell: (row) => badge(row.Status) },
          { title: `Credit limit (${currency})`, amount: (row) => row.CreditLimit },
          {
            title: "Made by",
            class: "text",
            cell: (row) => data(row.MadeBy) ?? h("span", { class: "hint" }, "not shown to this key"),
          },
        ],
        rows,
        empty: "No changes.",
      }),
      links.next ? h("p", { class: "hint" }, `The newest ${CHANGES}.`) : null,
    ],
    EXTRA,
  );
  return card("Changes of status and credit limit", null, part.element);
}
