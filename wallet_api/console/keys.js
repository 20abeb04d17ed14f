/* API keys: who may use the service, when each was last used, new ones, and their end. */

import { Digits, Refused, get, isSignedIn } from "./api.js";
import { changeButton, openChange } from "./change.js";
import { badge, checkbox, data, field, h, moment, table, time, timeInput } from "./dom.js";
import { alertBox, card, signInForm } from "./page.js";

const SCOPES = [
  ["read", "read: see accounts, payments and holds"],
  ["pay", "pay: payments, refunds and holds"],
  ["admin", "admin: accounts, currencies, limits"],
  ["keys", "keys: create and revoke API keys"],
];
/* The last use is exact to the minute: its text has so many characters. */
const MINUTE = 16;
const COMMAND = "server.py key create NAME --scopes read,pay,admin,keys";

export function keysPage(page) {
  const part = page.part(
    async (signal) => {
      try {
        return { keys: (await get("keys", signal)).Keys ?? [] };
      } catch (error) {
        // Also a wallet that requires no key requires one for this.
        const isExplained =
          error instanceof Refused && (error.status === 403 || (error.status === 401 && !isSignedIn()));
        if (isExplained) return { error };
        throw error;
      }
    },
    ({ keys, error }) => (error ? explain(page, error) : drawKeys(page, keys)),
  );
  page.show("Keys", part.element);
}

function explain(page, error) {
  return card(
    "Sign in to manage keys",
    null,
    error.status === 403 ? alertBox(error) : null,
    h("p", {}, "Managing keys needs an API key with the scope keys: "),
    h("pre", {}, COMMAND),
    signInForm(page.shell),
  );
}

function stateOf({ RevokedAt, ExpiresAt }) {
  if (RevokedAt) return "revoked";
  return ExpiresAt && Date.parse(ExpiresAt) <= Date.now() ? "expired" : "valid";
}

function drawKeys(page, keys) {
  const create = changeButton("Create a key…", { id: "create-key", onclick: () => createKey(page) });
  return card(
    "API keys",
    create,
    table({
      label: "API keys",
      columns: [
        { title: "ID", numeric: true, cell: (key) => String(key.ID) },
        { title: "Name", cell: (key) => data(key.Name) },
        { title: "State", cell: (key) => badge(stateOf(key)) },
        { title: "Scopes", cell: (key) => (key.Scopes ?? []).join(", ") },
        { title: "Accounts", cell: (key) => accountsOf(key) },
        { title: "Tenant", cell: (key) => data(key.Tenant) },
        { title: "Last use", cell: (key) => time(key.LastUsedAt, MINUTE) ?? "never" },
        { title: "Expires", cell: (key) => time(key.ExpiresAt) ?? "never" },
        {
          title: "Action",
          cell: (key) =>
            key.RevokedAt
              ? null
              : changeButton("Revoke…", {
                  id: `revoke-${key.ID}`,
                  onclick: () => revoke(page, key),
                  "aria-label": `Revoke key ${key.ID}…`,
                }),
        },
        { title: "Created", cell: (key) => [time(key.CreatedAt), key.CreatedBy ? [" by ", data(key.CreatedBy)] : []] },
        {
          title: "Revoked",
          cell: (key) =>
            key.RevokedAt ? [time(key.RevokedAt), key.RevokedBy ? [" by ", data(key.RevokedBy)] : []] : null,
        },
      ],
      rows: keys,
      empty: "There are no API keys.",
    }),
  );
}

function accountsOf({ AccountIDs }) {
  if (!AccountIDs) return "all";
  return AccountIDs.flatMap((id, index) => [index ? ", " : "", h("a", { href: `#/account/${id}` }, `#${id}`)]);
}

function createKey(page) {
  openChange(page, {
    title: "Create an API key",
    action: "Create key",
    fields: [
      field(
        "Name",
        h("input", { name: "name", required: true, maxlength: "255", autocomplete: "off" }),
        "For people: who uses it",
      ),
      h(
        "fieldset",
        {},
        h("legend", {}, "Scopes"),
        SCOPES.map(([scope, label]) => checkbox(`scope-${scope}`, label, { checked: scope === "read" })),
      ),
      field(
        "Account IDs",
        h("input", {
          name: "accounts",
          autocomplete: "off",
          pattern: "\\s*\\d+(\\s*,\\s*\\d+)*\\s*",
          title: "IDs of accounts, separated by commas",
        }),
        "Separated by commas: the key sees only these accounts. Empty: all",
      ),
      field("Expires", timeInput("expires"), "UTC. Empty: never"),
      field(
        "Tenant",
        h("input", { name: "tenant", maxlength: "64", autocomplete: "off" }),
        "Optional: keys of a tenant share idempotency keys",
      ),
    ],
    request: ({ elements }) => ({ path: "keys", body: newKeyBody(elements) }),
    done: (answer) => secretOf(answer),
  });
}

function newKeyBody(elements) {
  const ids = elements.accounts.value
    .split(",")
    .map((id) => id.trim())
    .filter((id) => id !== "");
  return {
    Name: elements.name.value,
    Scopes: SCOPES.map(([scope]) => scope).filter((scope) => elements[`scope-${scope}`].checked),
    ...(ids.length && {
      AccountIDs: ids.map((id) => (/^\d+$/.test(id) ? new Digits(id.replace(/^0+(?=\d)/, "")) : id)),
    }),
    ...(elements.expires.value && { ExpiresAt: moment(elements.expires.value) }),
    ...(elements.tenant.value && { Tenant: elements.tenant.value }),
  };
}

/** The secret of a new key. It is in this element only, which goes with the dialog. */
function secretOf({ ID, Name, Secret }) {
  const about = h("p", {}, "Key ", String(ID), " (", data(Name), ") was created. ");
  if (Secret === undefined) {
    return [about, h("p", {}, "Its secret was in an answer that was lost. Revoke this key, and create another one.")];
  }
  const secret = h("input", {
    class: "secret",
    readonly: true,
    value: Secret,
    autocomplete: "off",
    spellcheck: "false",
  });
  const copied = h("span", { role: "status" });
  const copy = async () => {
    secret.select();
    try {
      await navigator.clipboard.writeText(Secret);
      copied.textContent = "Copied.";
    } catch {
      // On plain HTTP there is no clipboard, but the text is selected.
      copied.textContent = document.execCommand("copy") ? "Copied." : "Press Ctrl+C.";
    }
  };
  return [
    about,
    field("Secret, shown only now", secret),
    h("p", { class: "actions" }, h("button", { type: "button", onclick: copy }, "Copy"), copied),
  ];
}

function revoke(page, { ID, Name }) {
  openChange(page, {
    title: `Revoke key ${ID}`,
    action: "Revoke key",
    about: h(
      "p",
      {},
      "The clients that use ",
      data(Name),
      " are refused from the next request on. This cannot be undone.",
    ),
    request: () => ({ path: `key/${ID}/revoke`, body: {} }),
    done: (answer) => h("p", {}, `Key ${answer.ID} is `, badge("revoked"), "."),
  });
}
