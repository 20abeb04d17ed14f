/* Changes: only while the switch is on, shown exactly before they are sent, and sent under an idempotency key. */

import { Refused, base, isSignedIn, read, send } from "./api.js";
import { announce, h, newID } from "./dom.js";
import { alertBox } from "./page.js";

/* The idempotency keys of requests whose outcome is unknown, by path and body: a later dialog sends the same. */
const uncertain = new Map();
/* A refusal with one of these says nothing of an earlier attempt: it was not looked for. */
const UNLOOKED = [401, 403, 408];
const REASON = "Turn on “Allow changes” first.";
let isAllowed = false;
let open = null;

/** Whether changes may be sent now. */
export const changesAllowed = () => isAllowed;

/** Turns changes on or off, for all buttons on the page. */
export function setAllowed(on) {
  isAllowed = on;
  for (const button of document.querySelectorAll("button.change")) adjust(button);
}

function adjust(button, reason = button.nextElementSibling) {
  button.disabled = !isAllowed;
  button.title = isAllowed ? "" : REASON;
  reason.hidden = isAllowed;
}

/** A button that changes something, with the reason next to it while it may not. */
export function changeButton(label, attributes) {
  const reason = h("span", { class: "reason", id: newID("reason") }, REASON);
  const button = h(
    "button",
    { type: "button", ...attributes, class: `change ${attributes.class ?? ""}`, "aria-describedby": reason.id },
    label,
  );
  adjust(button, reason);
  return h("span", { class: "with-reason" }, button, reason);
}

/** A random UUID. Pages on plain HTTP, other than on localhost, have no randomUUID(). */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The idempotency keys of a form: the same request always has the same key, and no other request has it. */
export class Keys {
  #sent = new Map();
  #next = newKey();

  /** The key of a request, given as text. */
  of(request) {
    return this.#sent.get(request) ?? this.#next;
  }

  /** Remembers that a request was sent. */
  sent(request) {
    if (this.#sent.has(request)) return;
    this.#sent.set(request, this.#next);
    this.#next = newKey();
  }
}

/** Closes the dialog, if one is open. */
export function closeChange() {
  open?.close();
}

/**
 * Opens the dialog of a change. `action` is on its button, `fields` are nodes with named controls; `request(form)`
 * returns {path, body} of the POST; `done(answer)` returns what the dialog shows once it has taken effect.
 */
export function openChange(page, options) {
  new Change(page, { fields: [], ...options });
}

class Change {
  #keys = new Keys();
  #isSending = false;
  #isDone = false;

  constructor(page, options) {
    Object.assign(this, { page, ...options, opener: document.activeElement });
    this.preview = h("pre", { class: "request", tabindex: "0", role: "group", "aria-label": "The request" });
    this.caution = h("p", { class: "caution", role: "status" });
    this.result = h("div", { class: "result" });
    this.sendButton = h("button", { class: "primary" }, this.action);
    this.closeButton = h("button", { type: "button", onclick: () => this.close() }, "Cancel");
    this.form = h(
      "form",
      { oninput: () => this.#show(), onsubmit: (event) => this.#submit(event) },
      this.fields,
      h("h3", {}, "The request"),
      this.preview,
      this.caution,
      this.result,
      h("div", { class: "actions" }, this.sendButton, this.closeButton),
    );
    // The focus is on no field or button: a key that is pressed twice by mistake sends nothing.
    const heading = h("h2", { id: newID("dialog"), tabindex: "-1", autofocus: true }, this.title);
    this.intro = h("div", {}, this.about);
    this.dialog = h(
      "dialog",
      { "aria-labelledby": heading.id, onclose: () => this.close() },
      heading,
      this.intro,
      this.form,
    );
    document.body.append(this.dialog);
    this.#show();
    open = this;
    this.dialog.showModal();
    heading.focus();
  }

  /** The request as it is sent, byte for byte. */
  #current() {
    const { path, body } = this.request(this.form);
    const text = JSON.stringify(body);
    const name = `${path} ${text}`;
    const key = uncertain.get(name) ?? this.#keys.of(text);
    return { path, text, name, headers: { "Content-Type": "application/json", "Idempotency-Key": key } };
  }

  #show() {
    const { path, text, name, headers } = this.#current();
    const lines = [
      `POST ${new URL(path, base).pathname}`,
      ...Object.entries(headers).map(([header, value]) => `${header}: ${value}`),
      ...(isSignedIn() ? ["Authorization: Bearer (your key)"] : []),
    ];
    this.caution.textContent = cautionOf(path, name);
    this.preview.replaceChildren(
      h("span", { class: "head" }, `${lines.join("\n")}\n\n`),
      h("code", { class: "body" }, text),
    );
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#isSending || this.#isDone) return;
    this.#isSending = true;
    this.sendButton.setAttribute("aria-disabled", "true");
    this.#answer(h("p", { role: "status" }, "Sending…"));
    const { path, text, name, headers } = this.#current();
    this.#keys.sent(text);
    uncertain.set(name, headers["Idempotency-Key"]);
    try {
      const response = await send("POST", path, { headers, body: text });
      const answer = read(response);
      uncertain.delete(name);
      this.#finish(answer, response.headers.has("Idempotency-Replayed"));
    } catch (error) {
      this.#refuse(error, name);
    }
    this.#isSending = false;
    this.sendButton.removeAttribute("aria-disabled");
    if (!this.page.signal.aborted) this.page.reload();
  }

  /** Shows an answer where it is seen. What the dialog said before of the state may not be true any more. */
  #answer(...content) {
    this.result.replaceChildren(...content);
    this.result.scrollIntoView({ block: "nearest" });
  }

  #finish(answer, isReplayed) {
    this.#isDone = true;
    for (const control of this.form.elements) if (control.type !== "button") control.disabled = true;
    this.intro.hidden = true;
    this.caution.textContent = "";
    this.sendButton.hidden = true;
    this.closeButton.textContent = "Close";
    const replayed = h("p", {}, "An earlier request had taken effect. This one changed nothing.");
    this.#answer(h("div", { class: "success", role: "status" }, isReplayed ? replayed : null, this.done(answer)));
    if (this.dialog.open) this.closeButton.focus();
    else announce(`${this.title}: done.`);
  }

  #refuse(error, name) {
    if (!(error instanceof Refused)) throw error;
    this.intro.hidden = true;
    const more = [];
    const isRefused = error.status >= 400 && error.status < 500;
    if (!isRefused) {
      more.push(
        "It may have taken effect or not. Send it again: under the same idempotency key, it takes effect once.",
      );
    } else if (!UNLOOKED.includes(error.status)) {
      uncertain.delete(name);
    }
    if (error.status === 401)
      more.push(h("button", { type: "button", onclick: () => this.#signIn(error) }, "Sign in again"));
    this.#show();
    if (!isRefused) this.caution.textContent = ""; // the answer says it
    this.#answer(alertBox(error, ...more));
    if (!this.dialog.open) announce(`${this.title}: ${error.message}`);
  }

  #signIn(error) {
    this.close();
    this.page.signIn(error);
  }

  /** Takes the dialog, and a secret in it, out of the page at once. */
  close() {
    if (open !== this) return;
    open = null;
    this.dialog.close();
    this.dialog.remove();
    // The page may have been drawn again, with another button in the place of the one that opened this.
    const opener = this.opener.isConnected ? this.opener : document.getElementById(this.opener.id);
    const isUsable = opener && !opener.disabled;
    (isUsable ? opener : this.page.heading)?.focus();
    // What has become of a request without an answer shows by now, if it has taken effect.
    if (!this.#isDone && uncertain.size && !this.page.signal.aborted) this.page.reload();
  }
}

/** What to know before a request is sent, if the outcome of an earlier one to the same path is unknown. */
function cautionOf(path, name) {
  if (uncertain.has(name)) {
    return (
      "The same request was sent before, and may have taken effect. This one has the same idempotency key: " +
      "together, they take effect once."
    );
  }
  const isOther = [...uncertain.keys()].some((other) => other.startsWith(`${path} `));
  return isOther ? "Another request was sent before, and may have taken effect. This one would be a further one." : "";
}
