/* Changes: only while the switch is on, shown exactly before they are sent, and sent under an idempotency key. */

import { Refused, base, isSignedIn, read, send } from "./api.js";
import { announce, h, newID } from "./dom.js";
import { alertBox } from "./page.js";

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
 * Opens the dialog of a change. `fields` are nodes with named controls; `request(form)` returns {path, body} of the
 * POST; `done(answer)` returns what the dialog shows once it has taken effect.
 */
export function openChange(page, { title, about, fields = [], request, done }) {
  new Change(page, { title, about, fields, request, done });
}

class Change {
  #keys = new Keys();
  #isSending = false;

  constructor(page, options) {
    Object.assign(this, { page, ...options, opener: document.activeElement });
    this.preview = h("pre", { class: "request", tabindex: "0", role: "group", "aria-label": "The request" });
    this.result = h("div", { class: "result" });
    this.caution = h(
      "p",
      { class: "caution", role: "status" },
      "The request that was sent before may have taken effect. This is another one.",
    );
    this.sendButton = h("button", { class: "primary" }, "Send");
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
    const heading = h("h2", { id: newID("dialog") }, this.title);
    this.dialog = h(
      "dialog",
      { "aria-labelledby": heading.id, onclose: () => this.close() },
      heading,
      this.about,
      this.form,
    );
    document.body.append(this.dialog);
    this.#show();
    open = this;
    this.dialog.showModal();
  }

  /** The request as it is sent, byte for byte. */
  #current() {
    const { path, body } = this.request(this.form);
    const text = JSON.stringify(body);
    const key = this.#keys.of(text);
    return { path, text, headers: { "Content-Type": "application/json", "Idempotency-Key": key } };
  }

  #show() {
    const { path, text, headers } = this.#current();
    const lines = [
      `POST ${new URL(path, base).pathname}`,
      ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
      ...(isSignedIn() ? ["Authorization: Bearer (your key)"] : []),
    ];
    // The answer to what was sent before is lost. Another request does not replace it.
    this.caution.hidden = this.lost === undefined || this.lost === text;
    this.preview.replaceChildren(
      h("span", { class: "head" }, `${lines.join("\n")}\n\n`),
      h("code", { class: "body" }, text),
    );
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#isSending || this.isDone) return;
    this.#isSending = true;
    this.sendButton.setAttribute("aria-disabled", "true");
    this.result.replaceChildren(h("p", { role: "status" }, "Sending…"));
    const { path, text, headers } = this.#current();
    this.#keys.sent(text);
    try {
      const response = await send("POST", path, { headers, body: text });
      this.#finish(read(response));
    } catch (error) {
      this.#refuse(error, text);
    }
    this.#isSending = false;
    this.sendButton.removeAttribute("aria-disabled");
  }

  #finish(answer) {
    this.isDone = true;
    for (const control of this.form.elements) if (control.type !== "button") control.disabled = true;
    this.sendButton.hidden = true;
    this.closeButton.textContent = "Close";
    this.result.replaceChildren(h("div", { class: "success", role: "status" }, this.done(answer)));
    if (this.dialog.open) this.closeButton.focus();
    else announce(`${this.title}: done.`);
    if (!this.page.signal.aborted) this.page.reload();
  }

  #refuse(error, text) {
    if (!(error instanceof Refused)) throw error;
    const more = [];
    const isRefused = error.status >= 400 && error.status < 500;
    if (!isRefused) {
      this.lost = text;
      more.push(
        "It may have taken effect or not. Send it again: under the same idempotency key, it takes effect once.",
      );
    } else if (error.status === 401) {
      more.push(
        h(
          "button",
          {
            type: "button",
            onclick: () => {
              this.close();
              this.page.signIn(error);
            },
          },
          "Sign in again",
        ),
      );
    }
    this.result.replaceChildren(alertBox(error, ...more));
    if (!this.dialog.open) announce(`${this.title}: ${error.message}`);
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
  }
}
