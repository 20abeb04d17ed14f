/* What all pages share: parts that load by themselves, alerts, and the form for the API key. */

import { Refused } from "./api.js";
import { field, h, moment, redraw } from "./dom.js";

/** What a page works with, until the user leaves it: then `signal` cancels its requests and its feed. */
export class Page {
  #controller = new AbortController();
  #parts = [];
  signal = this.#controller.signal;

  constructor(shell, path, query) {
    Object.assign(this, { shell, path, query });
  }

  /** Begins the page: its title, and its content below. */
  show(title, ...content) {
    this.heading = h("h1", { tabindex: "-1" }, title);
    document.getElementById("main").replaceChildren(this.heading, ...content.filter(Boolean));
    this.retitle(title);
  }

  retitle(title, ...content) {
    document.title = `${title} – Wallet`;
    this.heading.replaceChildren(...(content.length ? content : [title]));
  }

  /** Changes the query of the URL without leaving the page. Empty values are removed. */
  push(changes) {
    for (const [name, value] of Object.entries(changes)) {
      if (value) this.query.set(name, value);
      else this.query.delete(name);
    }
    const query = this.query.toString();
    history.pushState(null, "", `#${this.path}${query && `?${query}`}`);
  }

  /**
   * A part of the page, with an element of its own. It loads by itself, and shows what `draw` returns; or why it
   * cannot, and tries again after a temporary failure. Until then, what was shown stays. A part that `isExtra` may be
   * missing from the page: if the API key may not read it, that is no error.
   */
  part(load, draw, { isExtra = false } = {}) {
    const part = new Part(this, load, draw, isExtra);
    this.#parts.push(part);
    part.load();
    return part;
  }

  /** Loads all parts again, after a change. */
  reload() {
    return Promise.all(this.#parts.map((part) => part.load()));
  }

  /** Asks for an API key, then shows the same page again. */
  signIn(refused) {
    if (!this.signal.aborted) this.shell.signIn(refused);
  }

  leave() {
    this.#controller.abort();
  }
}

class Part {
  #loading = null;
  #timer = null;

  constructor(page, load, draw, isExtra) {
    Object.assign(this, { page, loadFrom: load, draw, isExtra });
    this.alert = h("div");
    this.content = h("div", {}, h("p", { class: "loading" }, "Loading…"));
    this.element = h("div", { class: "part", "aria-busy": "true" }, this.alert, this.content);
    page.signal.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  /** Loads and shows it. A later call wins over an earlier one. */
  async load() {
    clearTimeout(this.#timer);
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    const signal = AbortSignal.any([loading.signal, this.page.signal]);
    this.element.setAttribute("aria-busy", "true");
    try {
      await null; // the page may refer to its parts before they load
      const found = await this.loadFrom(signal);
      if (signal.aborted) return;
      this.alert.replaceChildren();
      redraw(this.content, ...[this.draw(found)].flat(Infinity).filter(Boolean));
    } catch (error) {
      if (signal.aborted) return;
      this.#fail(error);
    }
    this.element.setAttribute("aria-busy", "false");
  }

  #fail(error) {
    if (!(error instanceof Refused)) {
      console.error(error);
      this.alert.replaceChildren(
        h("div", { class: "alert", role: "alert" }, "The console cannot show this: ", String(error)),
      );
    } else if (error.status === 401) {
      this.page.signIn(error);
      return;
    } else if (error.isTemporary) {
      this.#timer = setTimeout(() => this.load(), error.retryAfter * 1000);
      this.#tell(
        alertBox(
          error,
          "Trying again every few seconds. ",
          h("button", { type: "button", onclick: () => this.load() }, "Try again"),
        ),
      );
    } else if (error.status === 403 && this.isExtra) {
      this.alert.replaceChildren();
      this.content.replaceChildren(h("p", { class: "empty" }, "Not shown to this API key."));
    } else {
      this.content.replaceChildren();
      this.#tell(alertBox(error, ...wayBack(error)));
    }
    this.content.querySelector(".loading")?.remove();
  }

  /** The same alert stays where it is: a screen reader would read each new one aloud. */
  #tell(box) {
    const shown = this.alert.firstElementChild;
    if (shown?.textContent !== box.textContent) this.alert.replaceChildren(box);
  }
}

/** A refusal of the API, in its own words. */
export function alertBox(error, ...more) {
  const code = error.code && h("code", { class: "code" }, error.code);
  return h(
    "div",
    { class: "alert", role: "alert" },
    h("p", {}, h("strong", {}, error.message), " ", code),
    more.length ? h("p", {}, more) : null,
  );
}

function wayBack(error) {
  if (error.status !== 403 && error.status !== 404) return [];
  return [
    h("a", { href: "#/" }, "Go to the overview"),
    " or ",
    h("button", { type: "button", onclick: () => history.back() }, "go back"),
    ".",
  ];
}

/** The form for the API key. The element that holds the key is gone once it is used. */
export function signInForm(shell) {
  const input = h("input", {
    type: "password",
    name: "key",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "none",
  });
  const problem = h("p", { class: "problem", role: "alert" });
  const submit = (event) => {
    event.preventDefault();
    const value = input.value.trim();
    // What a header cannot hold is no API key.
    if (!/^[\x21-\x7e]+$/.test(value)) {
      problem.textContent = "An API key consists of letters, digits and signs, without blanks.";
      return;
    }
    input.value = "";
    shell.useKey(value);
  };
  return h(
    "form",
    { class: "sign-in", onsubmit: submit },
    field("API key", input),
    problem,
    h("p", { class: "hint" }, "The key stays in the memory of this page. A reload forgets it."),
    h("div", { class: "actions" }, h("button", { class: "primary" }, "Sign in")),
  );
}

/** A section of a page with a heading. */
export function card(title, aside, ...content) {
  return h("section", { class: "card" }, h("header", {}, h("h2", {}, title), aside), content);
}

/**
 * Buttons that turn the pages of a list: `links` are those of the answer. The URL keeps the place; it is read by
 * cursor(). Nothing if the list has one page.
 */
export function pager(page, links, part) {
  const isFirst = !page.query.has("after") && !page.query.has("before");
  if (isFirst && !links.next) return null;
  const turn = async ({ after, before }) => {
    page.push({ after, before });
    await part.load();
    part.element.tabIndex = -1;
    part.element.focus({ preventScroll: true });
    part.element.scrollIntoView({ block: "nearest" });
  };
  const button = (label, link) => h("button", { type: "button", disabled: !link, onclick: () => turn(link) }, label);
  // A page without a row has no link back: hence the first page.
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages of the list" },
    button("First", isFirst ? null : {}),
    button("Previous", links.prev),
    button("Next", links.next),
  );
}

/** The place in a list that pager() has put into the URL. */
export const cursor = (page) => ({ after: page.query.get("after"), before: page.query.get("before") });

/**
 * A form that searches: its values go into the URL, without a place in the list, and `search` is called. Nothing is
 * searched while From is after To.
 */
export function searchForm(page, fields, search, ...more) {
  const submit = (event) => {
    event.preventDefault();
    page.push({ ...valuesOf(form), after: "", before: "" });
    search();
  };
  const form = h(
    "form",
    { class: "search", role: "search", oninput: () => checkPeriod(form), onsubmit: submit },
    fields,
    h(
      "div",
      { class: "actions" },
      h("button", { class: "primary" }, "Search"),
      h("button", { type: "button", onclick: () => searchFor(form, blank(form)) }, "Clear"),
      more,
    ),
  );
  checkPeriod(form);
  return form;
}

/** The values of a form by name, as the API takes them. */
export function valuesOf(form) {
  const controls = [...form.elements].filter((control) => control.name);
  return Object.fromEntries(controls.map((control) => [control.name, valueOf(control)]));
}

function valueOf({ type, inputMode, value }) {
  if (type === "datetime-local") return moment(value);
  // IDs are shown with a #, and may be pasted so.
  return inputMode === "numeric" ? value.replace(/[#\s]/g, "") : value.trim();
}

/** Searches for these values of fields, by name. Other fields stay as they are. */
export function searchFor(form, values) {
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
  checkPeriod(form);
  form.requestSubmit();
}

const blank = (form) => Object.fromEntries(Object.keys(valuesOf(form)).map((name) => [name, ""]));

function checkPeriod({ elements: { from, to } }) {
  const isReversed = from?.value && to?.value && moment(from.value) > moment(to.value);
  to?.setCustomValidity(isReversed ? "To should not be before From." : "");
}
