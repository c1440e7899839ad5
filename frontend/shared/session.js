// The session and the tab's storage. The token is only in memory here: it ends with the page.

import { redeem, redirect, usePopup } from "/shared/sign-in.js";

// Stored values survive reloads and the redirect to the issuer. Where storage is blocked (site data, a sandboxed
// frame), access throws, and memory replaces it.

const memory = new Map();
let storage = { getItem: (name) => memory.get(name) ?? null, setItem: (name, text) => memory.set(name, text) };
/** Whether stored values outlive the page. */
let isPersistent = false;
try {
  sessionStorage.setItem("kept", "null");
  storage = sessionStorage;
  isPersistent = true;
} catch {}

/** Returns a stored value, or null. */
export const restore = (name) => JSON.parse(storage.getItem(name));

/** Stores a JSON value, unless the storage is full. */
export function save(name, value) {
  try {
    storage.setItem(name, JSON.stringify(value));
  } catch {}
}

/** The storage key of the pending sign-in. */
const KEY = "sign-in";
/** The longest possible timer: 24 days. */
const TIMER_MS_MAX = 2 ** 31 - 1;

let token = null;
let name = "";
let voterId = null;
/** On the clock of performance.now(). */
let endsAtMs = 0;
let timer = null;
const listeners = new Set();

/** Takes the issuer's answer out of the address, and restores the earlier query. */
function takeAnswer() {
  const query = new URLSearchParams(location.search);
  if (!query.has("state") || !(query.has("code") || query.has("error"))) return null;
  const answer = { url: location.href, pending: restore(KEY) };
  save(KEY, null);
  history.replaceState(null, "", location.pathname + (answer.pending?.address ?? ""));
  return answer;
}

const answer = takeAnswer();

/** Calls back when a session begins or ends. */
export function onSession(listener) {
  listeners.add(listener);
}

export const userName = () => name;

/** Returns the `sub` of the latest session; null before the first. */
export const voter = () => voterId;

/** Returns `none`, `valid` or `ended`. */
export function sessionState() {
  if (!token) return "none";
  return performance.now() < endsAtMs ? "valid" : "ended";
}

/** Returns the `Authorization` header; null without a valid session. */
export const bearer = () => (sessionState() === "valid" ? `Bearer ${token}` : null);

function notify() {
  for (const listener of listeners) listener();
}

/** Ends the session after a 401, whatever the token's lifetime. */
export function endSession() {
  endsAtMs = 0;
  notify();
}

/** Forgets the token and its person. The issuer may still know them. */
export function signOut() {
  [token, name, voterId] = [null, "", null];
  endSession();
}

/** Whether the page is in a sandboxed frame without an origin, where no sign-in is possible. */
export const isSandboxed = self.origin === "null";

/** Redirects to the issuer, which redirects back with a code; in a popup if the page could not come back. */
export async function signIn(crew = false) {
  // Issuers refuse to be framed.
  const inPlace = isPersistent && window.parent === window;
  // Opened during the tap: popup blockers stop later ones.
  const popup = inPlace || isSandboxed ? null : window.open("", "_blank");
  if (inPlace) await redirect(crew, (pending) => save(KEY, pending));
  else begin(await usePopup(popup, crew));
}

/** Redeems the code in the issuer's answer, if there is one. */
export async function resumeSignIn() {
  if (!answer) return;
  begin(await redeem(answer));
}

function begin(session) {
  if (!session) return;
  ({ token, name, voterId } = session);
  endsAtMs = performance.now() + session.lifetimeS * 1000;
  scheduleEnd();
  notify();
}

/** Notifies at the session's end; timers may fire early. */
function scheduleEnd() {
  clearTimeout(timer);
  const left = endsAtMs - performance.now();
  if (left > 0) timer = setTimeout(scheduleEnd, Math.min(left + 1, TIMER_MS_MAX));
  else notify();
}
