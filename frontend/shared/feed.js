// Polling of public files: at the pace that each file states, with jitter, with backoff after failures, and not while the
// page is hidden.

import { learnTime } from "/shared/clock.js";

/** As long as the edge keeps a file. */
const INTERVAL_S = 3;
const RETRY_S_MAX = 60;
const TIMEOUT_MS = 10_000;

/** Replaces `AbortSignal.timeout`, which some phones lack. */
export function deadline(ms) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}

const MISSING = 404;

/** Returns a file's content, or null if there is no file. */
async function read(path) {
  const response = await fetch(path, { signal: deadline(TIMEOUT_MS) });
  if (response.status === MISSING) return null;
  if (!response.ok) throw new Error(response.status);
  return response.json();
}

const reading = new Map();

/** Reads a file that does not change while the page is open. */
function readOnce(path) {
  if (!reading.has(path)) {
    const forget = (body) => body ?? reading.delete(path);
    reading.set(path, read(path));
    reading.get(path).then(forget, () => forget());
  }
  return reading.get(path);
}

/** Loads /config.json, which is written at publication. */
export const config = () => readOnce("/config.json");

const isOffline = () => navigator.onLine === false;

/** Spreads the requests of many pages: a factor on an interval. */
export const spread = () => 1 + Math.random() / 2;

export class Feed {
  #timer = null;
  #pending = null;
  #failures = 0;
  #tag = null;
  #running = false;
  #due = 0;

  /**
   * `url()`: resolves to the address. `onData(body)`: a new body; resolves to false to get it again.
   * `onState("ok" | "offline" | "failing")`: on change. `pace(seconds)`: maps the file's interval to the page's.
   */
  constructor({ url, onData, onState, pace = (seconds) => seconds }) {
    Object.assign(this, { url, onData, onState, pace, state: "ok" });
  }

  /** `seconds`: the wait, where many pages start at one moment. */
  start(seconds = 0) {
    this.#running = true;
    for (const name of ["online", "offline"]) addEventListener(name, this);
    document.addEventListener("visibilitychange", this);
    this.#schedule(seconds);
    return this;
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#pending?.abort();
    for (const name of ["online", "offline"]) removeEventListener(name, this);
    document.removeEventListener("visibilitychange", this);
  }

  /** Requests within some seconds, if the next request is later. */
  hasten(seconds) {
    if (this.#due - performance.now() > seconds * 1000) this.#schedule(seconds);
  }

  handleEvent() {
    if (isOffline()) return this.#setState("offline");
    clearTimeout(this.#timer);
    if (!document.hidden) this.#schedule(Math.max(0, this.#due - performance.now()) / 1000 || Math.random());
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.onState?.(state);
  }

  #schedule(seconds) {
    clearTimeout(this.#timer);
    if (!this.#running) return;
    this.#due = performance.now() + seconds * 1000;
    if (!document.hidden) this.#timer = setTimeout(() => this.#request(), seconds * 1000);
  }

  async #request() {
    if (this.#pending) return;
    const pending = (this.#pending = new AbortController());
    const timeout = setTimeout(() => pending.abort(), TIMEOUT_MS);
    try {
      // Revalidates the browser's copy; the edge answers 304 from its own.
      const url = await this.url();
      const response = await fetch(url, { cache: "no-cache", signal: pending.signal });
      learnTime(response);
      if (response.ok) await this.#take(response);
      else if (response.status === MISSING) this.#schedule(INTERVAL_S * spread());
      else throw response;
    } catch {
      if (this.#running) this.#fail(isOffline() ? "offline" : "failing");
    } finally {
      clearTimeout(timeout);
      this.#pending = null;
    }
  }

  async #take(response) {
    const tag = response.headers.get("etag");
    const body = await response.json();
    if (!this.#running) return;
    const isKnown = tag && tag === this.#tag;
    this.#tag = isKnown || (await this.onData(body)) !== false ? tag : null;
    this.#failures = 0;
    this.#setState("ok");
    this.#schedule(this.pace(body.nextInSeconds ?? INTERVAL_S) * spread());
  }

  #fail(state) {
    this.#failures += 1;
    this.#setState(state);
    this.#schedule(Math.min(RETRY_S_MAX, 2 ** this.#failures) * (0.5 + Math.random()));
  }
}

// Polls as their public files have them: the list, each poll's file, and the file of its names, which is read once.
// `listVersion` tells which of two definitions of a poll is newer.

/** The interval of the list while an open poll's file tells of a newer one. */
const LIST_S = 60;

const fileOf = async (name) => (await config()).results.replace("{id}", name);

/** Adds title and contestants to a poll of the list, or to a poll's file; null if there are none. */
async function named(poll) {
  if (poll.title) return poll;
  if (!poll.names) {
    const file = await read(await fileOf(poll.id));
    return file && named({ listVersion: Infinity, ...file, id: poll.id });
  }
  const names = await readOnce(poll.names);
  return names && { ...poll, title: names.title, contestants: names.contestants };
}

/** Returns whether a poll's standing is public in a status. */
export function isShown({ results }, status) {
  return results === "live" || (results === "afterClose" && (status === "closed" || status === "certified"));
}

/**
 * Returns a feed of the list, not started. `choose(polls)`: those to show. `known(id)`: a poll with names, if there is one.
 * `onPolls(polls, listVersion)`: the chosen ones with their names. `isOpen()`: whether an open poll's file is followed.
 */
export function followList({ choose, known, onPolls, isOpen, onState }) {
  return new Feed({
    url: () => fileOf("polls"),
    onState,
    pace: (seconds) => (isOpen() ? LIST_S : seconds),
    async onData({ listVersion, polls }) {
      const entry = (poll) => (poll.names ? { listVersion, ...poll } : { ...known(poll.id), listVersion, ...poll });
      const chosen = await Promise.all(choose(polls).map((poll) => named(entry(poll))));
      onPolls(chosen.filter(Boolean), listVersion);
      return chosen.every(Boolean);
    },
  });
}

/** Returns a feed of a poll's file, not started. `onData(file)`: with `id` and all names. */
export function followFile(id, { onData, onState, pace }) {
  return new Feed({
    url: () => fileOf(id),
    onState,
    pace,
    async onData(body) {
      const file = await named({ listVersion: Infinity, ...body, id });
      if (!file) return false;
      const names = new Map(file.contestants.map(({ number, name }) => [number, name]));
      onData({ ...file, ranking: file.ranking?.map((line) => ({ ...line, name: names.get(line.contestant) })) });
    },
  });
}
