// The server's time, from the answers that pass by. A phone's clock is wrong by minutes, and may be set while a page is
// open: between two answers, time goes on by performance.now(), which nobody sets.

/** How far two readings of one moment may lie apart before one of them is wrong. */
const APART_MS_MAX = 5000;

/** The server's time when performance.now() was 0. Null: no answer has told it yet. */
let originMs = null;
/** The device's time when performance.now() was 0, as it was at the latest answer. */
let deviceOriginMs = 0;

const deviceOrigin = () => Date.now() - performance.now();

/** When an answer was made, by the server's clock, in whole seconds. NaN: the answer does not say. */
export const madeAt = (response) => Date.parse(response.headers.get("date"));

/**
 * Learns from an answer. `Date` says when it was made, in whole seconds, `Age` how long it has been kept since, in
 * whole seconds as well: so the truth is up to 2 s later, and the latest of all answers comes closest.
 */
export function learnTime(response) {
  const origin = madeAt(response) + Number(response.headers.get("age") ?? 0) * 1000 - performance.now();
  if (!Number.isFinite(origin)) return;
  if (originMs === null || origin > originMs || origin < originMs - APART_MS_MAX) originMs = origin;
  deviceOriginMs = deviceOrigin();
}

/**
 * Whether the server's time is certain: nothing final is decided before. The device's clock and performance.now() have
 * gone on together since the latest answer. Otherwise the clock was set, or the device slept and performance.now()
 * stood still; the next answer tells.
 */
export const knowsTime = () => originMs !== null && Math.abs(deviceOrigin() - deviceOriginMs) < APART_MS_MAX;

/** Milliseconds since 1970, by the server's clock as far as it is known. */
export const now = () => (originMs === null ? Date.now() : originMs + performance.now());

/**
 * Where a poll stands at this moment, by its own window: nothing has to be asked to know that it closed. While the
 * server's clock is not known, what the server said.
 */
export function statusOf(poll) {
  if (originMs === null && poll.status) return poll.status;
  if (poll.closesAt && now() >= Date.parse(poll.closesAt)) return "closed";
  return poll.opensAt && now() >= Date.parse(poll.opensAt) ? "open" : "scheduled";
}

const two = (value) => String(value).padStart(2, "0");

/** `4:05`, `1:04:05`. */
export function countdown(untilMs) {
  const seconds = Math.max(0, Math.ceil((untilMs - now()) / 1000));
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** Calls back at each whole second, while the page is shown; returns a function that stops it. */
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
