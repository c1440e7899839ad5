// Who is signed in, and what the tab keeps. The token lives in a variable here and nowhere else: it ends with the page.

// What a page keeps in its tab, over reloads and the way to the issuer and back. A browser that keeps nothing for the
// page (site data blocked, a sandboxed frame) throws at the first touch: then it is kept until the page ends.

const memory = new Map();
let storage = { getItem: (name) => memory.get(name) ?? null, setItem: (name, text) => memory.set(name, text) };
/** Whether what is kept outlives the page. */
let lasting = false;
try {
  sessionStorage.setItem("kept", "null");
  storage = sessionStorage;
  lasting = true;
} catch {}

/** What was kept under a name, or null. */
export const recall = (name) => JSON.parse(storage.getItem(name));

/** Keeps a value that JSON can hold. Where the tab's room is used up, the page goes on with what it has. */
export function keep(name, value) {
  try {
    storage.setItem(name, JSON.stringify(value));
  } catch {}
}

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
  const answer = { url: location.href, kept: recall(KEPT) };
  keep(KEPT, null);
  history.replaceState(null, "", location.pathname + (answer.kept?.address ?? ""));
  return answer;
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
  // No issuer lets itself be framed.
  const inPlace = lasting && window.parent === window;
  // Opened in the tap itself: later, browsers take it for an advertisement.
  const popup = inPlace || nameless ? null : window.open("", "_blank");
  const { leave, leaveIn } = await import("/shared/sign-in.js");
  if (inPlace) await leave(crew, (kept) => keep(KEPT, kept));
  else enter(await leaveIn(popup, crew));
}

/** If the page has come back with a code, redeems it. */
export async function resumeSignIn() {
  if (!answer) return;
  const { arrive } = await import("/shared/sign-in.js");
  enter(await arrive(answer));
}

function enter(arrived) {
  if (!arrived) return;
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
