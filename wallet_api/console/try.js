/* Try it: each operation of /openapi.json as a form, with its curl line and its answer. */

import { Refused, base, get, isSignedIn, parse, query, send } from "./api.js";
import { Keys, changeButton, changesAllowed } from "./change.js";
import { field, h, newID, pretty, select } from "./dom.js";
import { alertBox, card } from "./page.js";

const KEY = "Idempotency-Key";
const HEADERS = [
  "Content-Type",
  "Location",
  "Link",
  "Retry-After",
  "Error-Code",
  "Error-Field",
  "Idempotency-Replayed",
  "Ledger-Position",
  "WWW-Authenticate",
  "Allow",
  "X-Request-ID",
];
const UNKNOWN = "It may have taken effect or not. Under the same idempotency key, it takes effect once.";
/* Characters of an answer that are shown. A whole list may have any number. */
const MOST = 200_000;

/* The same document for all forms, and for the whole life of the page. */
let openapiDocument = null;

export function tryPage(page, operationID) {
  const part = page.part(
    async (signal) => (openapiDocument ??= await get("openapi.json", signal)),
    (openapi) => {
      const operations = operationsOf(openapi);
      const chosen = operations.find(({ operation }) => operation.operationId === operationID);
      const list = listOf(openapi, operations, operationID);
      if (operationID === undefined) return list;
      if (chosen) page.retitle(`${chosen.operation.summary} – Try it`, chosen.operation.summary);
      const form = chosen
        ? new Form(page, openapi, chosen).element
        : h("p", {}, "The API has no operation ", h("code", {}, operationID), ".");
      return h("div", { class: "try" }, list, form);
    },
  );
  page.show("Try it", part.element);
}

function operationsOf({ paths }) {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, operation]) => operation.operationId)
      .map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
}

function listOf({ tags }, operations, current) {
  const item = ({ path, method, operation }) =>
    h(
      "li",
      {},
      h(
        "a",
        {
          href: `#/try/${operation.operationId}`,
          title: operation.summary,
          "aria-current": operation.operationId === current ? "page" : null,
        },
        h("span", { class: `method ${method.toLowerCase()}` }, method),
        h("span", { class: "path" }, path),
      ),
    );
  return h(
    "nav",
    { class: "card operations", "aria-label": "Operations" },
    current ? null : h("p", { class: "hint" }, "Each operation of the API, as a form. Choose one."),
    tags.map(({ name }) => [
      h("h2", {}, name),
      h("ul", {}, operations.filter(({ operation }) => operation.tags?.includes(name)).map(item)),
    ]),
  );
}

/** The form of one operation. */
class Form {
  #keys = new Keys();
  #ownKey = null;

  constructor(page, openapi, { path, method, operation }) {
    Object.assign(this, { page, openapi, path, method, operation });
    const inputs = (operation.parameters ?? []).map((parameter) =>
      this.#input(parameter.in, parameter, parameter.schema, parameter.required, parameter.example),
    );
    this.inputs = [...inputs, ...this.#bodyInputs()];
    this.curl = h("pre", { class: "curl", tabindex: "0", role: "group", "aria-label": "curl" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.answer = h("div", { class: "answer-part" });
    const ofPlace = (place, title) => {
      const found = this.inputs.filter((input) => input.place === place);
      return found.length
        ? h(
            "section",
            {},
            h("h3", {}, title),
            h(
              "div",
              { class: "inputs" },
              found.map((input) => input.element),
            ),
          )
        : null;
    };
    this.form = h(
      "form",
      { oninput: () => this.#show(), onsubmit: (event) => this.#submit(event), novalidate: true },
      ofPlace("path", "Path"),
      ofPlace("query", "Query"),
      ofPlace("header", "Headers"),
      ofPlace("body", "Body"),
      h("h3", {}, "The same with curl"),
      this.curl,
      this.problem,
      h("div", { class: "actions" }, this.#sendButton(), this.#newKeyButton()),
    );
    this.element = h(
      "div",
      { class: "stack" },
      card(
        `${method} ${path}`,
        h("a", { href: "#/try" }, "All operations"),
        h("p", {}, withCode(operation.description ?? "")),
        method === "GET" ? null : h("p", { class: "caution" }, "Requests are real, not a rehearsal."),
        this.form,
      ),
      this.answer,
    );
    this.#show();
  }

  #sendButton() {
    const attributes = { class: "primary", type: "submit" };
    return this.method === "GET" ? h("button", attributes, "Send") : changeButton("Send", attributes);
  }

  #newKeyButton() {
    if (!this.#keyInput()) return null;
    const renew = () => {
      this.#keys = new Keys();
      this.#keyInput().control.value = "";
      this.#show();
    };
    return h("button", { type: "button", onclick: renew }, "New idempotency key");
  }

  #keyInput() {
    return this.inputs.find(({ place, name }) => place === "header" && name === KEY);
  }

  #bodyInputs() {
    const content = this.operation.requestBody?.content?.["application/json"];
    if (!content) return [];
    const schema = this.#resolved(content.schema);
    return Object.entries(schema.properties ?? {})
      .filter(([, property]) => !property.deprecated)
      .map(([name, property]) =>
        this.#input(
          "body",
          { name, description: property.description },
          property,
          schema.required?.includes(name),
          content.example?.[name],
        ),
      );
  }

  #resolved(schema) {
    if (!schema?.$ref) return schema ?? {};
    return schema.$ref
      .slice(2)
      .split("/")
      .reduce((object, name) => object[name], this.openapi);
  }

  /** A control for a parameter or a field of the body, by its type. */
  #input(place, { name, description }, schema, isRequired, example) {
    const found = this.#resolved(schema.anyOf?.find(({ type }) => type !== "null") ?? schema);
    const type = [found.type ?? "any"].flat().find((each) => each !== "null");
    const control = this.#control(name, type, found, example);
    const label = [name, isRequired ? h("span", { class: "required", title: "required" }, " *") : null];
    const about = [
      found.format === "decimal" ? "amount" : (found.format ?? type),
      isRequired ? "required" : null,
      description,
    ]
      .filter(Boolean)
      .join("; ");
    return { place, name, type, control, isRequired, element: field(label, control, withCode(about)) };
  }

  #control(name, type, schema, example) {
    const attributes = { name, autocomplete: "off", spellcheck: "false" };
    if (schema.enum) return select(name, [["", ""], ...schema.enum.map((value) => [value, value])]);
    if (type === "boolean")
      return select(name, [
        ["", ""],
        ["true", "true"],
        ["false", "false"],
      ]);
    const placeholder = example === undefined ? null : typeof example === "string" ? example : JSON.stringify(example);
    if (type === "object" || type === "array") return h("textarea", { ...attributes, rows: "4", placeholder });
    return h("input", {
      ...attributes,
      placeholder,
      inputmode: type === "integer" ? "numeric" : schema.format === "decimal" ? "decimal" : null,
    });
  }

  /** The request of what is typed: blank fields are left out. */
  #request() {
    const filled = this.inputs.filter(({ control }) => control.value !== "");
    const of = (place) => filled.filter((input) => input.place === place);
    const path = this.path.replace(/\{(\w+)\}/g, (hole, name) => {
      const input = of("path").find((each) => each.name === name);
      return input ? encodeURIComponent(input.control.value.trim()) : hole;
    });
    const members = of("body").map(({ name, type, control }) => `${JSON.stringify(name)}:${json(type, control.value)}`);
    return {
      path: path.slice(1) + query(Object.fromEntries(of("query").map(({ name, control }) => [name, control.value]))),
      headers: Object.fromEntries(of("header").map(({ name, control }) => [name, control.value])),
      body: this.operation.requestBody ? `{${members.join(",")}}` : undefined,
      filled,
    };
  }

  /** The same, with an idempotency key of its own unless one is typed. */
  #complete() {
    const input = this.#keyInput();
    if (input && (input.control.value === "" || input.control.value === this.#ownKey)) {
      input.control.value = "";
      const { path, headers, body } = this.#request();
      this.identity = JSON.stringify([path, headers, body]);
      this.#ownKey = this.#keys.of(this.identity);
      input.control.value = this.#ownKey;
    }
    return this.#request();
  }

  #show() {
    const { path, headers, body } = this.#complete();
    const words = ["curl"];
    if (this.method !== "GET") words.push(`-X ${this.method}`);
    if (isSignedIn()) words.push('-H "Authorization: Bearer $WALLET_API_KEY"');
    for (const [name, value] of Object.entries(headers)) words.push(`-H ${quoted(`${name}: ${value}`)}`);
    if (body !== undefined) words.push(`-H 'Content-Type: application/json' --data-raw ${quoted(body)}`);
    words.push(quoted(base.href + path)); // a blank parameter stays {id}
    this.curl.textContent = words.join(" \\\n  ");
    this.problem.textContent = "";
  }

  async #submit(event) {
    event.preventDefault();
    if (this.method !== "GET" && !changesAllowed()) return;
    const { path, headers, body, filled } = this.#complete();
    const missing = this.inputs.find(
      ({ place, isRequired, control }) => place === "path" && isRequired && control.value.trim() === "",
    );
    const broken = filled.find(({ place, type, control }) => place === "body" && !isJSON(type, control.value));
    if (missing || broken) {
      this.problem.textContent = missing ? `The path needs ${missing.name}.` : `${broken.name} is not valid JSON.`;
      (missing ?? broken).control.focus();
      return;
    }
    if (this.isSending) return;
    this.isSending = true;
    if (this.#keyInput()?.control.value === this.#ownKey) this.#keys.sent(this.identity);
    this.answer.replaceChildren(h("p", { class: "loading", role: "status" }, "Waiting for the answer…"));
    const all = body === undefined ? headers : { "Content-Type": "application/json", ...headers };
    try {
      this.#answered(await send(this.method, path, { headers: all, body, signal: this.page.signal }));
    } catch (error) {
      if (error instanceof Refused) this.answer.replaceChildren(alertBox(error, this.method === "GET" ? "" : UNKNOWN));
      else if (!this.page.signal.aborted) this.problem.textContent = `The browser cannot send this: ${error.message}`;
    }
    this.isSending = false;
  }

  #answered({ status, headers, text }) {
    const lines = [
      `HTTP ${status}`,
      ...HEADERS.filter((name) => headers.has(name)).map((name) => `${name}: ${headers.get(name)}`),
    ];
    const shown = readable(text);
    const part = shown.slice(0, MOST);
    const heading = h("h2", { id: newID("answer"), tabindex: "-1" }, `Answer: ${status}`);
    this.answer.replaceChildren(
      h(
        "section",
        { class: "card", "aria-labelledby": heading.id },
        heading,
        h("p", { class: "hidden", role: "status" }, `The answer is ${status}.`),
        h("h3", {}, "Headers"),
        h("pre", { tabindex: "0", role: "group", "aria-label": "Headers of the answer" }, lines.join("\n")),
        h("h3", {}, "Body"),
        h("pre", { class: "answer", tabindex: "0", role: "group", "aria-label": "Body of the answer" }, part),
        part.length < shown.length
          ? h("p", { class: "hint" }, `The first ${MOST} of ${shown.length} characters.`)
          : null,
      ),
    );
    heading.focus();
  }
}

/** A value of the body as JSON. Digits are sent as typed, and what is no integer is left to the API to refuse. */
function json(type, value) {
  if (type === "integer") return /^-?(0|[1-9]\d*)$/.test(value.trim()) ? value.trim() : JSON.stringify(value);
  return ["boolean", "object", "array", "any"].includes(type) ? value : JSON.stringify(value);
}

function isJSON(type, value) {
  try {
    JSON.parse(json(type, value));
    return true;
  } catch {
    return false;
  }
}

/** A text of the document, in which code is between backticks. */
const withCode = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));

/** A word as a POSIX shell takes it. */
const quoted = (word) => `'${word.replaceAll("'", "'\\''")}'`;

function readable(text) {
  try {
    return pretty(parse(text));
  } catch {
    return text;
  }
}
