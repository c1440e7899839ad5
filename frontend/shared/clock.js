// The server's time, from the `Date` of answers. A phone's clock may be minutes wrong, or set while a page is open, so
// time advances by performance.now(), which is never set.

/** If two readings differ by more, one of them is wrong. */
const DRIFT_MS_MAX = 5000;

/** The server's time when performance.now() was 0; null before the first answer. */
let originMs = null;
/** The device's time when performance.now() was 0, as of the latest answer. */
let deviceOriginMs = 0;

const deviceOrigin = () => Date.now() - performance.now();

/**
 * Learns the time from an answer. `Date` and `Age` are whole seconds, so the true time is up to 2 s later, and the
 * latest of all answers is closest.
 */
export function learnTime(response) {
  const origin = Date.parse(response.headers.get("date")) + Number(response.headers.get("age") ?? 0) * 1000 - performance.now();
  if (!Number.isFinite(origin)) return;
  if (originMs === null || origin > originMs || origin < originMs - DRIFT_MS_MAX) originMs = origin;
  deviceOriginMs = deviceOrigin();
}

/**
 * Returns whether the server's time is certain, as final decisions require: the device's clock and performance.now()
 * have advanced alike since the latest answer. Else the clock was set, or performance.now() stopped during a sleep.
 */
export const knowsTime = () => originMs !== null && Math.abs(deviceOrigin() - deviceOriginMs) < DRIFT_MS_MAX;

/** Returns the server's time, or the device's while that is unknown, in milliseconds since 1970. */
export const now = () => (originMs === null ? Date.now() : originMs + performance.now());

/** Returns a poll's status by its own window, without a request; the server's status while its time is unknown. */
export function statusOf(poll) {
  if (originMs === null && poll.status) return poll.status;
  if (poll.closesAt && now() >= Date.parse(poll.closesAt)) return "closed";
  return poll.opensAt && now() >= Date.parse(poll.opensAt) ? "open" : "scheduled";
}

const two = (value) => String(value).padStart(2, "0");

/** Returns `4:05` or `1:04:05`. */
export function countdown(untilMs) {
  const seconds = Math.max(0, Math.ceil((untilMs - now()) / 1000));
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** Calls back at each whole second while the page is visible; returns a function that stops it. */
export function everySecond(callback) {
  let timer = null;
  const tick = () => {
    timer = setTimeout(tick, 1000 - (now() % 1000) + 5);
    callback();
  };
  const follow = () => {
    clearTimeout(timer);
    if (!document.hidden) tick();
  };
  document.addEventListener("visibilitychange", follow);
  follow();
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", follow);
  };
}
