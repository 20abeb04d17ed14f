/* Builds the page. Text from the API only ever becomes text nodes and attributes, never markup. */

import { mostDecimals, padding } from "./amounts.js";

/** An element. `attributes` may have listeners (onclick) and booleans; children are nodes, texts, arrays or null. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** An amount of the API, with its currency if one is given. */
export function amount(value, currency) {
  if (value === undefined) return null;
  return h("span", { class: "amount" }, value, currency && h("span", { class: "currency" }, ` ${currency}`));
}

/** A time of the API, to the second, or as many characters of it; the title has the rest. */
export function time(value, length = 19) {
  if (!value) return null;
  const [date, clock] = value.slice(0, length).split("T");
  return h("time", { datetime: value, title: value }, h("span", {}, date), " ", h("span", {}, clock));
}

/** The same, without the date if it is today's. */
export function shortTime(value) {
  const today = new Date().toISOString().slice(0, 10);
  const text = value.startsWith(today) ? value.slice(11, 19) : value.slice(0, 16).replace("T", " ");
  return h("time", { datetime: value, title: value }, text);
}

/** Text that people wrote, in whatever script and direction. */
export const data = (value) => (value === undefined ? null : h("bdi", { class: "data", title: value }, value));

const TONES = {
  active: "good",
  open: "good",
  valid: "good",
  captured: "info",
  frozen: "warn",
  expired: "warn",
  blocked: "bad",
  revoked: "bad",
};

/** A status as a word in a box. The colour only repeats the word. */
export const badge = (status) => h("span", { class: `badge ${TONES[status] ?? ""}` }, status);

/** A region of its own that scrolls if a wide table does not fit, also by the arrow keys. */
const scroller = (label, ...children) =>
  h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, ...children);

/**
 * A table. A column is {title, cell(row)}, or {title, amount(row)} for amounts that align at the point. The title of a
 * unit, behind an amount, is for screen readers.
 * `empty` is shown instead if there are no rows.
 */
export function table({ label, columns, rows, empty }) {
  if (rows.length === 0) return h("p", { class: "empty" }, empty);
  const cells = columns.map((column) =>
    column.amount ? alignedCells(rows.map(column.amount)) : rows.map(column.cell),
  );
  const classOf = ({ amount, numeric, isUnit, class: own }) => (amount || numeric ? "numeric" : isUnit ? "unit" : own);
  const title = (column) => (column.isUnit ? h("span", { class: "hidden" }, column.title) : column.title);
  const head = h(
    "tr",
    {},
    columns.map((column) => h("th", { scope: "col", class: classOf(column) }, title(column))),
  );
  const body = rows.map((_, row) =>
    h(
      "tr",
      {},
      columns.map((column, index) => h("td", { class: classOf(column) }, cells[index][row])),
    ),
  );
  return scroller(
    label,
    h("table", {}, h("caption", { class: "hidden" }, label), h("thead", {}, head), h("tbody", {}, body)),
  );
}

function alignedCells(values) {
  const decimals = mostDecimals(values);
  return values.map((value) => {
    if (value === undefined) return null;
    return h(
      "span",
      { class: "amount" },
      value,
      h("span", { class: "pad", "aria-hidden": "true", "data-pad": padding(value, decimals) }),
    );
  });
}

/** Names and values, such as the fields of a payment. Those without a value are left out. */
export function facts(...pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined);
  return h(
    "dl",
    { class: "facts" },
    shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/**
 * Replaces what an element shows by a newer version of the same. What the user has there stays: the focus, open
 * details, and how far tables are scrolled.
 */
export function redraw(element, ...nodes) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const open = [...element.querySelectorAll("details")].map((details) => details.open);
  const scrolled = [...element.querySelectorAll(".scroll")].map(({ scrollLeft, scrollTop }) => [scrollLeft, scrollTop]);
  element.replaceChildren(...nodes);
  element.querySelectorAll("details").forEach((details, index) => (details.open = open[index] ?? false));
  element.querySelectorAll(".scroll").forEach((region, index) => region.scrollTo(...(scrolled[index] ?? [0, 0])));
  if (active === null || active === element) return;
  const isSame = (other) =>
    active.id && !active.id.startsWith("field-")
      ? other.id === active.id
      : ["href", "aria-label", "name"].every((name) => other.getAttribute(name) === active.getAttribute(name)) &&
        other.textContent === active.textContent;
  const next = [...element.querySelectorAll(active.localName)].find((other) => isSame(other) && !other.disabled);
  (next ?? document.querySelector("h1")).focus({ preventScroll: true });
}

let ids = 0;
/** An ID of an element that no other has. */
export const newID = (name) => `${name}-${++ids}`;

/** A labelled control. `control` is an input, select or textarea. */
export function field(label, control, hint) {
  control.id ||= newID("field");
  const about = hint && h("span", { class: "hint", id: newID("hint") }, hint);
  if (about) control.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, about);
}

/** A checkbox with its label after it. */
export function checkbox(name, label, attributes = {}) {
  const control = h("input", { type: "checkbox", name, ...attributes });
  return h("label", { class: "check" }, control, " ", label);
}

/** A select of [value, text] pairs. */
export function select(name, options, value = "", attributes = {}) {
  const control = h(
    "select",
    { name, ...attributes },
    options.map(([key, title]) => h("option", { value: key }, title)),
  );
  control.value = options.some(([key]) => key === value) ? value : options[0][0];
  return control;
}

/** An input for a time in UTC. Its value and the moments of the API differ by the Z: see moment(). */
export const timeInput = (name, value = "") =>
  h("input", {
    type: "datetime-local",
    name,
    step: "1",
    max: "9999-12-31T23:59:59",
    value: value.replace(/(\.\d+)?Z$/, ""),
  });

/** The moment of a time input, as the API has it; "" if it is empty. */
export function moment(value) {
  if (value === "") return "";
  return `${value}${/T\d\d:\d\d$/.test(value) ? ":00" : ""}Z`;
}

/** A moment so many seconds from now, as the API has it. */
export const fromNow = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();

/** Numbers and JSON of the API, on lines of their own. */
export const pretty = (value) => JSON.stringify(value, null, 2);

/** Says something to screen readers, politely. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}
