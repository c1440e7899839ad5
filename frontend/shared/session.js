// Who is signed in. The token lives in this variable and nowhere else: it ends with the page.

import { now } from "/shared/clock.js";

/** Where sign-in.js keeps what it needs over the way to the issuer and back. */
export const KEPT = "sign-in";

let token = null;
let name = "";
let endsAt = 0;
let timer = null;
const listeners = new Set();

/** The issuer's answer, out of the page's address at once: what was in it before belongs to the page. */
function takeAnswer() {
  const query = new URLSearchParams(location.search);
  if (!query.has("state") || !(query.has("code") || query.has("error"))) return null;
  const answer = { url: new URL(location.href), kept: JSON.parse(sessionStorage.getItem(KEPT) ?? "null") };
  sessionStorage.removeItem(KEPT);
  history.replaceState(null, "", location.pathname + (answer.kept?.address ?? ""));
  return answer;
}

const answer = takeAnswer();

/** Calls back whenever somebody signs in, or the sign-in ends. */
export function onSession(listener) {
  listeners.add(listener);
}

export const whoIs = () => name;

/** `none`, `valid`, or `ended`: there was one, and it is over. */
export function sessionState() {
  if (!token) return "none";
  return now() < endsAt ? "valid" : "ended";
}

/** For the `Authorization` header; null unless it is valid. */
export const bearer = () => (sessionState() === "valid" ? `Bearer ${token}` : null);

function tell() {
  for (const listener of listeners) listener();
}

/** The API says that the token is not good any more, whatever its lifetime was. */
export function endSession() {
  endsAt = 0;
  tell();
}

/** Goes to the issuer; the page comes back with a code. */
export async function signIn(crew = false) {
  const { leave } = await import("/shared/sign-in.js");
  await leave(crew, KEPT);
}

/** If the page has come back with a code, redeems it. True if somebody is signed in. */
export async function resumeSignIn() {
  if (!answer) return false;
  const { arrive } = await import("/shared/sign-in.js");
  const arrived = await arrive(answer);
  ({ token, name } = arrived);
  endsAt = now() + arrived.lifetimeS * 1000;
  awaitEnd();
  tell();
  return true;
}

/** Tells of the end when it has come by the server's clock: timers are early at times, and wait no longer than 24 days. */
function awaitEnd() {
  clearTimeout(timer);
  const left = endsAt - now();
  if (left > 0) timer = setTimeout(awaitEnd, Math.min(left + 1, 2 ** 31 - 1));
  else tell();
}
