// The server's time, from the answers that pass by: phones' clocks are wrong by minutes, and a bell is a bell.

let offsetMs = null;

/**
 * Learns from an answer. `Date` says when it was made, in whole seconds, `Age` how long it has been kept since, in
 * whole seconds as well: so the truth is up to 2 s later, and the latest of all answers comes closest.
 */
export function learnTime(response) {
  const made = Date.parse(response.headers.get("date"));
  const offset = made + Number(response.headers.get("age") ?? 0) * 1000 - Date.now();
  if (!Number.isFinite(offset)) return;
  if (offsetMs === null || offset > offsetMs || offset < offsetMs - 5000) offsetMs = offset;
}

/** Whether the server's clock is known. A phone's own may be hours wrong: no moment is judged by it. */
export const knowsTime = () => offsetMs !== null;

/** Milliseconds since 1970, by the server's clock as far as it is known. */
export const now = () => Date.now() + (offsetMs ?? 0);

/**
 * Where a poll stands at this moment, by its own window: nothing has to be asked to know that it closed. While the
 * server's clock is not known, what the server said.
 */
export function statusOf(poll) {
  if (offsetMs === null && poll.status) return poll.status;
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
