// Who is signed in. The token lives in this variable and nowhere else: it ends with the page.

import { keep, lasting, take } from "/shared/kept.js";

/** Where the way to the issuer and back is kept. */
const KEPT = "sign-in";
/** Timers wait no longer than 24 days. */
const TIMER_MS_MAX = 2 ** 31 - 1;

let token = null;
let name = "";
let voterId = null;
/** By the clock that nobody sets: a lifetime needs no other. */
let endsAtMs = 0;
let timer = null;
const listeners = new Set();

/** The issuer's answer, out of the page's address at once: what was in it before belongs to the page. */
function takeAnswer() {
  const query = new URLSearchParams(location.search);
  if (!query.has("state") || !(query.has("code") || query.has("error"))) return null;
  const answer = { url: location.href, kept: take(KEPT) };
  history.replaceState(null, "", location.pathname + (answer.kept?.address ?? ""));
  if (answer.kept || !window.opener) return answer;
  // This is the window that a page without storage signs in with. The code goes to our own origin and to no other.
  window.opener.postMessage({ answer: answer.url }, location.origin);
  return null;
}

const answer = takeAnswer();

/** Calls back whenever somebody signs in, or the sign-in ends. */
export function onSession(listener) {
  listeners.add(listener);
}

export const whoIs = () => name;

/** The issuer's name for who is signed in, or was last; null before. */
export const voter = () => voterId;

/** `none`, `valid`, or `ended`: there was one, and it is over. */
export function sessionState() {
  if (!token) return "none";
  return performance.now() < endsAtMs ? "valid" : "ended";
}

/** For the `Authorization` header; null unless it is valid. */
export const bearer = () => (sessionState() === "valid" ? `Bearer ${token}` : null);

function tell() {
  for (const listener of listeners) listener();
}

/** The API says that the token is not good any more, whatever its lifetime was. */
export function endSession() {
  endsAtMs = 0;
  tell();
}

/** Whether the page is in a frame that takes its origin from it: nobody can sign in there. */
export const nameless = self.origin === "null";

/** Goes to the issuer; the page comes back with a code. Where it could not come back, another window goes. */
export async function signIn(crew = false) {
  // No issuer lets itself be framed, and no answer reaches a page without an origin.
  const inPlace = lasting && window.parent === window;
  // Opened in the tap itself: later, browsers take it for an advertisement.
  const popup = inPlace || nameless ? null : window.open("", "_blank");
  if (!inPlace && !popup) throw new Error("no window to sign in with");
  try {
    const { answerIn, arrive, leave } = await import("/shared/sign-in.js");
    const { url, kept } = await leave(crew);
    if (popup) return enter(await arrive({ url: await answerIn(popup, url, kept), kept }));
    keep(KEPT, kept);
    location.assign(url);
  } catch (error) {
    popup?.close();
    throw error;
  }
}

/** If the page has come back with a code, redeems it. True if somebody is signed in. */
export async function resumeSignIn() {
  if (!answer) return false;
  const { arrive } = await import("/shared/sign-in.js");
  enter(await arrive(answer));
  return true;
}

function enter(arrived) {
  ({ token, name, voterId } = arrived);
  endsAtMs = performance.now() + arrived.lifetimeS * 1000;
  awaitEnd();
  tell();
}

/** Tells of the end when it has come: timers are early at times. */
function awaitEnd() {
  clearTimeout(timer);
  const left = endsAtMs - performance.now();
  if (left > 0) timer = setTimeout(awaitEnd, Math.min(left + 1, TIMER_MS_MAX));
  else tell();
}
