/* Names of accounts and currencies. Payments and holds have only IDs, so that each name is asked for once and kept. */

import { get } from "./api.js";
import { h } from "./dom.js";

const AT_ONCE = 6;
/* By ID: {name, signal}. The promise of a name, and what cancels it until it is there. */
const names = new Map();
const waiting = [];
let running = 0;
let currencyNames = null;

/** Forgets what another API key may not see. */
export function forget() {
  names.clear();
  currencyNames = null;
}

/** Keeps a name that came with an answer. */
export const learn = (id, name) => names.set(String(id), { name: Promise.resolve(name) });

/** The name of an account; null if this API key may not read it. */
function nameOf(id, signal) {
  const key = String(id);
  // What failed for a moment, or was cancelled with its page, is asked for again.
  if (!names.has(key) || names.get(key).signal?.aborted) {
    const name = new Promise((resolve, reject) => waiting.push({ key, signal, resolve, reject }));
    const entry = { name, signal };
    names.set(key, entry);
    name.then(
      () => delete entry.signal,
      () => names.get(key) === entry && names.delete(key),
    );
    next();
  }
  return names.get(key).name;
}

async function next() {
  if (running >= AT_ONCE || waiting.length === 0) return;
  running += 1;
  const { key, signal, resolve, reject } = waiting.shift();
  try {
    signal.throwIfAborted();
    resolve((await get(`account/${encodeURIComponent(key)}`, signal)).Name);
  } catch (error) {
    if (error.status === 403 || error.status === 404) resolve(null);
    else reject(error);
  } finally {
    running -= 1;
    next();
  }
}

/** A link to an account, as "name (#7)", or "#7" until its name is known. A name that is given is not asked for. */
export function account(id, signal, name) {
  const link = h("a", { href: `#/account/${id}`, class: "account" }, `#${id}`);
  const show = (found) => {
    if (found !== null) link.replaceChildren(h("bdi", { class: "name", title: found }, found), ` (#${id})`);
  };
  if (name === undefined) nameOf(id, signal).then(show, () => {});
  else {
    learn(id, name);
    show(name);
  }
  return link;
}

/** Who pays whom. */
export const sides = ({ signal }, buyer, seller) => [account(buyer, signal), " → ", account(seller, signal)];

/** All currencies, as a map of names by ID. */
export async function currencies(signal) {
  if (currencyNames === null) {
    const { Currencies = [] } = await get("currencies", signal);
    currencyNames = new Map(Currencies.map(({ ID, Name }) => [String(ID), Name]));
  }
  return currencyNames;
}

/** Offers all currencies, once they are known. `chosen` is the ID or the name of one, as in the API. */
export function offerCurrencies(choice, known, chosen) {
  if (choice.options.length > 1) return;
  choice.append(...[...known].map(([id, name]) => h("option", { value: id }, name)));
  choice.value = [...known].find((currency) => currency.includes(chosen))?.[0] ?? "";
}

/** The currencies once more, if one of these IDs is new. */
export async function currenciesWith(ids, signal) {
  const known = await currencies(signal);
  if (ids.every((id) => known.has(String(id)))) return known;
  currencyNames = null;
  return currencies(signal);
}
