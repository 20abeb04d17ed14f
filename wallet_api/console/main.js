/* The shell: routes, the API key, the switch, and what all pages share. */

import { isSignedIn, keyHasWorked, useKey } from "./api.js";
import { accountPage } from "./account.js";
import { accountsPage } from "./accounts.js";
import { closeChange, setAllowed } from "./change.js";
import { announce, h } from "./dom.js";
import { holdPage, holdsPage } from "./holds.js";
import { keysPage } from "./keys.js";
import { forget } from "./names.js";
import { overviewPage } from "./overview.js";
import { Page, alertBox, signInForm } from "./page.js";
import { paymentPage, paymentsPage } from "./payments.js";
import { tryPage } from "./try.js";

/* [path, page, the link of the navigation that it belongs to] */
const ROUTES = [
  [/^\/$/, overviewPage, "#/"],
  [/^\/accounts$/, accountsPage, "#/accounts"],
  [/^\/account\/(-?\d+)$/, accountPage, "#/accounts"],
  [/^\/payments$/, paymentsPage, "#/payments"],
  [/^\/payment\/(-?\d+)$/, paymentPage, "#/payments"],
  [/^\/holds$/, holdsPage, "#/holds"],
  [/^\/hold\/(-?\d+)$/, holdPage, "#/holds"],
  [/^\/keys$/, keysPage, "#/keys"],
  [/^\/try(?:\/(\w+))?$/, tryPage, "#/try"],
];

const main = document.getElementById("main");
const signButton = document.getElementById("sign");
const allowButton = document.getElementById("allow");
/* What the wallet answers to a request without an API key, if it requires one. */
const KEY_REQUIRED = "WA002";
let page = null;
let isKeyRequired = false;

/* What pages ask of the shell. */
const shell = { signIn: showSignIn, useKey: setKey };

function setKey(value) {
  // The next user decides anew.
  if (value === null) allow(false);
  useKey(value);
  forget();
  showSigned();
  showPage();
  page.heading.focus();
  announce(value === null ? "Signed out." : "Signed in.");
}

function allow(on) {
  allowButton.setAttribute("aria-checked", String(on));
  setAllowed(on);
}

function showSigned() {
  signButton.textContent = isSignedIn() ? "Sign out" : "Sign in";
}

/** Takes the place of the page. `refused` is why, unless the user asks for it. */
function showSignIn(refused) {
  const [wasSignedIn, hadWorked] = [isSignedIn(), keyHasWorked()];
  isKeyRequired ||= refused?.code === KEY_REQUIRED;
  leave();
  // What the wallet does not accept is of no use any more.
  useKey(null);
  forget();
  showSigned();
  page = new Page(shell, ...route());
  page.show("Sign in", whySignIn(refused, wasSignedIn, hadWorked), signInForm(shell), isKeyRequired ? null : goOn());
  main.querySelector("input").focus();
}

function whySignIn(refused, wasSignedIn, hadWorked) {
  if (refused === undefined) return null;
  if (!wasSignedIn) return h("p", {}, "This wallet requires an API key.");
  return hadWorked
    ? alertBox(refused, "The key may have expired, or was revoked. Sign in again to go on where you were.")
    : alertBox(refused, "The wallet does not accept this API key.");
}

function goOn() {
  return h("p", {}, h("button", { type: "button", class: "link", onclick: showPage }, "Go on without an API key"));
}

function route() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split(/\?(.*)/s);
  return [path, new URLSearchParams(query)];
}

function leave() {
  page?.leave();
  closeChange();
  announce("");
}

function showPage() {
  leave();
  const [path, query] = route();
  page = new Page(shell, path, query);
  const [draw, link, parameter] = found(path);
  for (const anchor of document.querySelectorAll("#nav a")) {
    if (anchor.getAttribute("href") === link) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  draw(page, parameter);
}

function found(path) {
  for (const [pattern, draw, link] of ROUTES) {
    const match = pattern.exec(path);
    if (match) return [draw, link, match[1]];
  }
  return [unknownPage, null];
}

function unknownPage(page) {
  page.show(
    "Page not found",
    h(
      "p",
      {},
      "The console has no page ",
      h("code", {}, `#${page.path}`),
      ". ",
      h("a", { href: "#/" }, "Go to the overview"),
      ".",
    ),
  );
}

function start() {
  signButton.addEventListener("click", () => (isSignedIn() ? setKey(null) : showSignIn()));
  allowButton.addEventListener("click", () => {
    const on = allowButton.getAttribute("aria-checked") !== "true";
    allow(on);
    announce(on ? "Changes are allowed." : "Changes are not allowed.");
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the hash is the route
    main.focus();
  });
  addEventListener("hashchange", () => {
    showPage();
    page.heading.focus();
  });
  showPage();
}

start();
