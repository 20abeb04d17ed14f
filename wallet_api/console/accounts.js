/* Accounts: search, and the balances of now or of a moment in the past. */

import { get, getPage, query } from "./api.js";
import { badge, data, field, h, select, table, time, timeInput } from "./dom.js";
import { currencies, learn, offerCurrencies } from "./names.js";
import { card, cursor, pager, searchForm } from "./page.js";

const LIMIT = 25;
const STATUSES = ["active", "frozen", "blocked", "closed"];

export function accountsPage(page) {
  const asked = (name) => page.query.get(name) ?? "";
  const choice = select("currency", [["", "any"]]);
  const part = page.part(
    async (signal) => {
      offerCurrencies(choice, await currencies(signal), asked("currency"));
      const { found, links } = await getPage(
        `accounts${query({
          details: "true",
          limit: LIMIT,
          name_prefix: asked("prefix"),
          status: asked("status"),
          currency: asked("currency"),
          ...cursor(page),
        })}`,
        signal,
      );
      const { Accounts: accounts = [] } = found;
      const at = asked("at");
      return { accounts: at ? await then(accounts, at, signal) : accounts, links, at };
    },
    ({ accounts, links, at }) => {
      accounts.forEach(({ ID, Name }) => learn(ID, Name));
      return [
        at ? h("p", {}, "Balances at ", time(at), ".") : null,
        drawAccounts(accounts, at !== "", links.next),
        pager(page, links, part),
      ];
    },
  );
  page.show(
    "Accounts",
    searchForm(
      page,
      [
        field(
          "Name begins with",
          h("input", { name: "prefix", value: asked("prefix"), maxlength: "255" }),
          "case matters",
        ),
        field(
          "Status",
          select("status", [["", "any"], ...STATUSES.map((status) => [status, status])], asked("status")),
        ),
        field("Currency", choice),
        field("Balances at", timeInput("at", asked("at")), "UTC; now if empty"),
      ],
      () => part.load(),
    ),
    card("Accounts", null, part.element),
  );
}

/** The same accounts, with the balances of a moment. */
function then(accounts, at, signal) {
  return Promise.all(
    accounts.map(async (account) => {
      const { Amount } = await get(`account/${account.ID}${query({ at })}`, signal);
      return { ...account, Amount };
    }),
  );
}

function drawAccounts(accounts, isPast, hasNext) {
  const now = [
    { title: "Held", amount: (row) => row.Held },
    { title: "Available", amount: (row) => row.Available },
    { title: "Credit limit", amount: (row) => row.CreditLimit },
  ];
  return table({
    label: "Accounts",
    columns: [
      { title: "ID", numeric: true, cell: (row) => String(row.ID) },
      {
        title: "Name",
        cell: (row) => h("a", { href: `#/account/${row.ID}` }, h("bdi", { class: "name", title: row.Name }, row.Name)),
      },
      { title: "Currency", cell: (row) => data(row.CurrencyName) },
      { title: isPast ? "Status now" : "Status", cell: (row) => badge(row.Status) },
      { title: "Balance", amount: (row) => row.Amount },
      ...(isPast ? [] : now),
    ],
    rows: accounts,
    empty: hasNext ? "No account on this page. The next one may have some." : "No account matches.",
  });
}
