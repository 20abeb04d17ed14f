/* Overview: the state of the ledger, and what happens now. */

import { get, getPage, pause, query } from "./api.js";
import { hoursChart } from "./charts.js";
import { data, h, redraw, select, shortTime, table, time } from "./dom.js";
import { endingHolds, leftOf } from "./holds.js";
import { currencies, currenciesWith, sides } from "./names.js";
import { card } from "./page.js";
import { explain } from "./statement.js";

/* An API key of some accounts does not see the sums of all. */
const EXTRA = { isExtra: true };
const NEWEST = 20;
/* In milliseconds: between two refreshes of what follows from payments, the same while none arrive, and between two
 * reads of a busy feed. */
const REFRESH = 10_000;
const MINUTE = 60_000;
const READ = 500;
/* As the alert WalletLedgerUnchecked in deploy/monitoring has it. */
const LATE_HOURS = 3;
const FEED_EVENTS = 1000;

export function overviewPage(page) {
  const totals = page.part(
    (signal) => get("totals", signal),
    ({ Totals = [] }) => drawTotals(Totals),
    EXTRA,
  );
  const chart = hoursPart(page);
  const holds = page.part(
    async (signal) => ({ ...(await endingHolds(signal)), known: await currencies(signal) }),
    (found) => drawHolds(page, found),
    EXTRA,
  );
  const payments = newestPayments(page, () => refresh());
  const refresh = atMostEvery(REFRESH, page.signal, () => [totals, chart.part, holds].forEach((part) => part.load()));
  // Holds come to their end, and hours begin, also without a payment.
  const timer = setInterval(() => document.hidden || refresh(), MINUTE);
  page.signal.addEventListener("abort", () => clearInterval(timer));
  const [today, yesterday] = [0, -1].map((days) => new Date(Date.now() + days * 86400e3).toISOString().slice(0, 10));
  page.show(
    "Overview",
    h(
      "div",
      { class: "columns compact" },
      h(
        "div",
        { class: "stack" },
        card("Currencies", null, totals.element),
        card(
          "Newest payments",
          payments.state,
          payments.element,
          h(
            "p",
            { class: "more" },
            h("a", { href: "#/payments" }, "All payments"),
            " · ",
            h(
              "a",
              { href: `#/payments${query({ from: `${yesterday}T00:00:00Z`, to: `${today}T00:00:00Z` })}` },
              "Payments of yesterday",
            ),
          ),
        ),
      ),
      h(
        "div",
        { class: "stack" },
        card("Payments per hour", chart.control, chart.part.element),
        card("Holds that end within the hour", h("a", { href: "#/holds?status=ending" }, "All of them"), holds.element),
      ),
    ),
  );
}

function drawTotals(totals) {
  return [
    books(totals[0] ?? {}),
    table({
      label: "Totals by currency",
      columns: [
        { title: "Currency", cell: (row) => data(row.CurrencyName) },
        { title: "Accounts", numeric: true, cell: (row) => String(row.Accounts) },
        { title: "Payments", numeric: true, cell: (row) => String(row.Payments) },
        { title: "Sum of balances", amount: (row) => row.Total },
        { title: "Held", amount: (row) => row.Held },
      ],
      // Those without an account come last.
      rows: totals.toSorted((a, b) => Number(b.Accounts > 0) - Number(a.Accounts > 0)),
      empty: "There are no currencies.",
    }),
  ];
}

/** Whether the last recorded check of the whole ledger is recent and found nothing. Each currency has the same one. */
function books({ CheckedAt, Problems }) {
  const box = (isGood, ...text) =>
    h(
      "p",
      { class: `books ${isGood ? "good" : "bad"}` },
      h("span", { class: "icon", "aria-hidden": "true" }, isGood ? "✓" : "✗"),
      h("span", {}, text),
    );
  const run = [" Run ", h("code", {}, "server.py check"), "."];
  if (CheckedAt === undefined) return box(false, h("strong", {}, "Books never proved."), run);
  if (Number(Problems) > 0) {
    return box(
      false,
      h("strong", {}, `${Problems} ${Number(Problems) === 1 ? "problem" : "problems"} found`),
      " in the books at ",
      time(CheckedAt),
      ".",
    );
  }
  const isLate = Date.now() - Date.parse(CheckedAt) > LATE_HOURS * 3600e3;
  if (isLate)
    return box(false, h("strong", {}, "Proof of the books is late:"), " last proved at ", time(CheckedAt), ".", run);
  return box(true, h("strong", {}, "Books proved"), " at ", time(CheckedAt), ": no problems.");
}

function hoursPart(page) {
  const control = h("div", { class: "with-reason" });
  let chosen = "";
  const part = page.part(
    async (signal) => {
      const known = await currencies(signal);
      if (control.children.length === 0) {
        const options = [["", "all currencies"], ...[...known].map(([id, name]) => [id, name])];
        const choice = select("currency", options, "", { "aria-label": "Currency of the chart" });
        choice.addEventListener("change", () => {
          chosen = choice.value;
          part.load();
        });
        control.append(choice);
      }
      const { Hours = [] } = await get(`payments/hours${query({ currency: chosen })}`, signal);
      return [Hours, known.get(chosen)];
    },
    ([hours, currency]) => (hours.length ? hoursChart(hours, currency) : h("p", { class: "empty" }, "No hours.")),
    EXTRA,
  );
  return { control, part };
}

function drawHolds(page, { holds, known, isPart }) {
  const rows = holds.slice(0, NEWEST);
  return [
    table({
      label: "Holds that end within the hour",
      columns: [
        { title: "Ends", cell: (hold) => shortTime(hold.ExpiresAt) },
        { title: "Hold", cell: (hold) => h("a", { href: `#/hold/${hold.ID}` }, String(hold.ID)) },
        { title: "Still held", amount: leftOf },
        { title: "Currency", isUnit: true, cell: (hold) => known.get(String(hold.CurrencyID)) },
        {
          title: "Buyer → seller",
          class: "names",
          cell: ({ BuyerAccountID, SellerAccountID }) => sides(page, BuyerAccountID, SellerAccountID),
        },
      ],
      rows,
      empty: "No hold ends within the hour.",
    }),
    isPart || holds.length > rows.length
      ? h("p", { class: "hint" }, `The first ${rows.length} of ${isPart ? "more than " : ""}${holds.length}.`)
      : null,
  ];
}

/** The newest payments, and those that arrive. `arrived` is called after each arrival. */
function newestPayments(page, arrived) {
  const state = h("span", { class: "live", role: "status" }, "Connecting…");
  let rows = [];
  const show = (text, isOn) => {
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle("on", isOn);
  };
  const part = page.part(
    async (signal) => {
      // The feed begins before the list, so that no payment falls between the two.
      try {
        await feed.begin(signal);
      } catch (error) {
        state.hidden = error.status === 403;
        throw error;
      }
      const { Payments = [] } = await get(`payments${query({ order: "desc", limit: NEWEST })}`, signal);
      return Payments;
    },
    (payments) => {
      rows = payments;
      feed.run();
      return drawPayments(page, rows, new Set());
    },
    EXTRA,
  );
  const feed = new Feed(page, show, async (events) => {
    if (events === null) return void part.load();
    const paid = events.filter((event) => event.Event === "payment_made");
    if (paid.length) {
      const known = await currenciesWith(
        paid.map((event) => event.CurrencyID),
        page.signal,
      );
      const have = new Set(rows.map((row) => String(row.ID)));
      const added = paid
        .map((event) => ({ ...event, ID: event.PaymentID, CurrencyName: known.get(String(event.CurrencyID)) }))
        .filter((row) => !have.has(String(row.ID)))
        .reverse();
      rows = [...added, ...rows].slice(0, NEWEST);
      redraw(part.content, drawPayments(page, rows, new Set(added.map((row) => String(row.ID)))));
    }
    arrived();
  });
  return { state, element: part.element };
}

function drawPayments(page, rows, fresh) {
  const element = table({
    label: "Newest payments",
    columns: [
      { title: "Time", cell: (row) => shortTime(row.OperationTimestamp) },
      { title: "Payment", cell: (row) => h("a", { href: `#/payment/${row.ID}` }, String(row.ID)) },
      { title: "Amount", amount: (row) => row.Amount },
      { title: "Currency", isUnit: true, cell: (row) => data(row.CurrencyName) },
      {
        title: "Buyer → seller",
        class: "names",
        cell: ({ BuyerAccountID, SellerAccountID }) => sides(page, BuyerAccountID, SellerAccountID),
      },
      { title: "What for", class: "text", cell: explain },
    ],
    rows,
    empty: "No payments yet. Those that arrive appear here.",
  });
  element
    .querySelectorAll("tbody tr")
    .forEach((line, index) => line.classList.toggle("new", fresh.has(String(rows[index].ID))));
  return element;
}

/** Reads the feed while the page is visible. Passes events on; null if it misses some, so that a list starts anew. */
class Feed {
  #cursor = null;
  #isRunning = false;

  constructor(page, show, arrive) {
    Object.assign(this, { page, show, arrive });
  }

  /** Finds the end of the feed. */
  async begin(signal) {
    const { links } = await getPage("feed?after=now", signal);
    this.#cursor = links.next?.after ?? null;
  }

  /** Follows the feed from there, until the page is left, or the list has to start anew. */
  async run() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    for (let failures = 0; !this.page.signal.aborted;) {
      try {
        await this.#visible();
        if (!(await this.#read())) break;
        failures = 0;
        await pause(READ, this.page.signal);
      } catch (error) {
        if (error.name === "AbortError") continue; // hidden, or left
        if (error.status === 401) return this.page.signIn(error);
        this.show("Reconnecting…", false);
        failures += 1;
        await pause(Math.min(2 ** failures * 500, 15_000), this.page.signal).catch(() => {});
        if (!error.isTemporary) break; // the cursor is of no use
      }
    }
    this.#isRunning = false;
    if (!this.page.signal.aborted) this.arrive(null);
  }

  /** Reads once. Returns whether the feed can go on: not after so many events that some are best skipped. */
  async #read() {
    const hidden = new AbortController();
    const hide = () => document.hidden && hidden.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      const signal = AbortSignal.any([this.page.signal, hidden.signal]);
      const connected = setTimeout(() => this.show("Live", true), 300);
      try {
        const { found, links } = await getPage(
          `feed${query({ after: this.#cursor, wait: 20, limit: FEED_EVENTS })}`,
          signal,
        );
        this.show("Live", true);
        const { Events = [] } = found;
        this.#cursor = links.next?.after ?? Events.at(-1)?.Cursor ?? this.#cursor;
        if (Events.length === FEED_EVENTS) return false;
        if (Events.length) await this.arrive(Events);
        return true;
      } finally {
        clearTimeout(connected);
      }
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
  }

  async #visible() {
    if (!document.hidden) return;
    this.show("Paused", false);
    await new Promise((resolve) => {
      const look = () => {
        if (document.hidden && !this.page.signal.aborted) return;
        document.removeEventListener("visibilitychange", look);
        resolve();
      };
      document.addEventListener("visibilitychange", look);
      this.page.signal.addEventListener("abort", look);
    });
  }
}

/** Calls `action` soon, but at most once in so many milliseconds. */
function atMostEvery(milliseconds, signal, action) {
  let last = performance.now();
  let timer = null;
  signal.addEventListener("abort", () => clearTimeout(timer));
  return () => {
    timer ??= setTimeout(
      () => {
        timer = null;
        last = performance.now();
        action();
      },
      Math.max(0, last + milliseconds - performance.now()),
    );
  };
}
