/* The statement of an account, and its download. */

import { Refused, getPage, pause, query } from "./api.js";
import { announce, data, field, h, table, time, timeInput } from "./dom.js";
import { account } from "./names.js";
import { alertBox, card, cursor, pager, searchForm, valuesOf } from "./page.js";

const LIMIT = 50;
const DOWNLOAD = 1000;
const COLUMNS = [
  "OperationTimestamp",
  "PaymentID",
  "CounterpartyAccountID",
  "CounterpartyName",
  "Description",
  "Reference",
  "RefundedPaymentID",
  "HoldID",
  "Amount",
  "Balance",
];
const AMOUNTS = ["Amount", "Balance"];

export function statementCard(page, id, currency) {
  const period = () => ({ from: page.query.get("from"), to: page.query.get("to") });
  const part = page.part(
    (signal) =>
      getPage(`account/${id}/statement${query({ order: "desc", limit: LIMIT, ...period(), ...cursor(page) })}`, signal),
    ({ found, links }) => [
      drawLines(page, found.Lines, currency),
      h(
        "p",
        { class: "opening" },
        "Balance before these lines: ",
        h("span", { class: "amount" }, found.OpeningAmount),
        ` ${currency}`,
      ),
      pager(page, links, part),
    ],
    { isExtra: true },
  );
  const progress = h("p", { class: "with-reason" });
  const download = h(
    "button",
    {
      type: "button",
      onclick: () => form.reportValidity() && downloadStatement(page, id, valuesOf(form), download, progress),
    },
    "Download CSV",
  );
  const form = searchForm(
    page,
    [
      field("From", timeInput("from", page.query.get("from") ?? ""), "UTC"),
      field("To", timeInput("to", page.query.get("to") ?? ""), "UTC, before this time"),
    ],
    () => {
      if (!download.disabled) progress.replaceChildren();
      part.load();
    },
    download,
    progress,
  );
  return card("Statement", h("span", { class: "hint" }, "newest first"), form, part.element);
}

function drawLines(page, lines, currency) {
  const isPaid = (line) => line.Amount.startsWith("-");
  return table({
    label: "Statement",
    columns: [
      { title: "Time", cell: (line) => time(line.OperationTimestamp) },
      { title: "Payment", cell: (line) => h("a", { href: `#/payment/${line.PaymentID}` }, String(line.PaymentID)) },
      {
        title: "Counterparty",
        cell: (line) => [
          isPaid(line) ? "to " : "from ",
          account(line.CounterpartyAccountID, page.signal, line.CounterpartyName),
        ],
      },
      { title: "What for", class: "text", cell: explain },
      { title: `Amount (${currency})`, amount: (line) => line.Amount },
      { title: "Balance after", amount: (line) => line.Balance },
    ],
    rows: lines,
    empty: "No lines in this period.",
  });
}

/** What a payment is for: what it refunds or captures, its description and its reference. */
export function explain({ RefundedPaymentID, HoldID, Description, Reference }) {
  const parts = [];
  if (RefundedPaymentID !== undefined)
    parts.push(h("a", { href: `#/payment/${RefundedPaymentID}` }, `Refund of payment ${RefundedPaymentID}`));
  if (HoldID !== undefined) parts.push(h("a", { href: `#/hold/${HoldID}` }, `Capture of hold ${HoldID}`));
  if (Description !== undefined) parts.push(data(Description));
  if (Reference !== undefined) parts.push(h("span", { class: "hint" }, data(Reference)));
  return parts.flatMap((part, index) => (index ? [" · ", part] : [part]));
}

/** Reads the statement page by page, oldest line first, into a file. */
async function downloadStatement(page, id, period, button, progress) {
  const stopped = new AbortController();
  const signal = AbortSignal.any([page.signal, stopped.signal]);
  const count = h("span", {}, "Reading…");
  button.disabled = true;
  progress.replaceChildren(count, h("button", { type: "button", onclick: () => stopped.abort() }, "Stop"));
  try {
    const chunks = [row(COLUMNS)];
    let lines = 0;
    for (let parameters = { limit: DOWNLOAD, ...period }; parameters;) {
      const { found, links } = await patiently(`account/${id}/statement${query(parameters)}`, signal);
      chunks.push(found.Lines.map((line) => row(COLUMNS.map((column) => cell(column, line[column])))).join(""));
      lines += found.Lines.length;
      count.textContent = `${lines} lines read…`;
      parameters = links.next;
    }
    save(fileName(id, period), new Blob(chunks, { type: "text/csv;charset=utf-8" }));
    finish(`${lines} lines saved.`);
  } catch (error) {
    if (stopped.signal.aborted) finish("Stopped.");
    else if (error instanceof Refused && error.status === 401) page.signIn(error);
    else if (error instanceof Refused) progress.replaceChildren(alertBox(error, "Nothing was saved."));
    else if (!page.signal.aborted) {
      console.error(error);
      finish("The console could not save this.");
    }
  }
  button.disabled = false;

  function finish(text) {
    progress.replaceChildren(text);
    announce(text);
  }
}

/** A page, as soon as the wallet answers: a long download goes on after a failover. */
async function patiently(path, signal) {
  for (;;) {
    try {
      return await getPage(path, signal);
    } catch (error) {
      if (!error.isTemporary) throw error;
      await pause(error.retryAfter * 1000, signal);
    }
  }
}

const row = (cells) => `${cells.join(",")}\r\n`;

/** A cell as RFC 4180 has it. A text that a spreadsheet would run as a formula begins with an apostrophe. */
function cell(column, value) {
  if (value === undefined) return "";
  const text = String(value);
  const safe = !AMOUNTS.includes(column) && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Names the days of the period, as far as it has a beginning and an end. */
function fileName(id, { from, to }) {
  const days = [from && (to ? "" : "from-") + from.slice(0, 10), to && (from ? "" : "to-") + to.slice(0, 10)];
  return [`account-${id}-statement`, ...days.filter(Boolean)].join("-") + ".csv";
}

function save(name, blob) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
