/* Talks to the API, the only source of the console. */

/* The folder of the page: the wallet may be served below a prefix. */
export const base = new URL(".", location.href);

/* The API key. Here and nowhere else: no storage, no URL and no element keeps it. */
let secret = null;
let hasWorked = false;

export const isSignedIn = () => secret !== null;

/** Whether the wallet has accepted the API key once. */
export const keyHasWorked = () => hasWorked;

export function useKey(value) {
  secret = value;
  hasWorked = false;
}

/** A refusal of the API, or no answer at all (status 0). */
export class Refused extends Error {
  constructor(status, text, code = null, retryAfter = 2) {
    super(text);
    Object.assign(this, { status, code, retryAfter });
  }

  /** Whether the same request may succeed a little later. */
  get isTemporary() {
    return [0, 502, 503, 504].includes(this.status);
  }
}

/** A number of which JavaScript's numbers would lose digits. It is shown and sent with all of them. */
export class Digits {
  constructor(source) {
    this.source = source;
  }

  toString() {
    return this.source;
  }

  toJSON() {
    if (JSON.rawJSON) return JSON.rawJSON(this.source);
    // Without it, the API refuses a text: better than another number.
    return String(Number(this.source)) === this.source ? Number(this.source) : this.source;
  }
}

/** Parses JSON without the loss of a digit, where the browser has `context.source`. Large IDs become texts. */
export function parse(text) {
  return JSON.parse(text, (key, value, context) => {
    if (typeof value !== "number" || context?.source === undefined || String(value) === context.source) return value;
    return /ID$/.test(key) && /^-?\d+$/.test(context.source) ? context.source : new Digits(context.source);
  });
}

/** The query of a URL. Values that are empty or missing are left out. */
export function query(parameters) {
  const entries = Object.entries(parameters).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  return entries.length ? `?${new URLSearchParams(entries)}` : "";
}

/** Sends a request. Returns the response, whatever its status; throws Refused if there is none. */
export async function send(method, path, { headers = {}, body, signal } = {}) {
  const credentials = secret === null ? {} : { Authorization: `Bearer ${secret}` };
  try {
    const response = await fetch(new URL(path, base), {
      method,
      body,
      signal,
      headers: { ...headers, ...credentials },
      credentials: "same-origin",
      cache: "no-store",
    });
    hasWorked ||= secret !== null && response.ok;
    return { status: response.status, headers: response.headers, text: await response.text() };
  } catch (error) {
    if (signal?.aborted || error.name === "AbortError") throw error;
    throw new Refused(0, "The wallet does not answer.");
  }
}

/** The object in an answer. Throws Refused if it is an error. */
export function read(response) {
  let object;
  try {
    object = parse(response.text);
  } catch {
    object = undefined;
  }
  if (response.status >= 200 && response.status < 300 && object !== undefined) return object;
  const text = object?.Error ?? `The wallet answers ${response.status}, and does not say why.`;
  throw new Refused(
    response.status,
    text,
    response.headers.get("Error-Code"),
    Number(response.headers.get("Retry-After")) || undefined,
  );
}

/** Waits. Throws if the signal is aborted. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", stop, { once: true });
  });
}

/** GETs an object. */
export async function get(path, signal) {
  return read(await send("GET", path, { signal }));
}

/** GETs a page of a list: its object, and the parameters of the links to the next and the previous page, if any. */
export async function getPage(path, signal) {
  const response = await send("GET", path, { signal });
  const found = read(response);
  const links = {};
  for (const [, url, relation] of (response.headers.get("Link") ?? "").matchAll(/<([^>]*)>;\s*rel="?(\w+)"?/g)) {
    links[relation] = Object.fromEntries(new URL(url, base).searchParams);
  }
  return { found, links };
}
