// Polling of public data: at the pace of the edge's TTL with jitter, with backoff after failures, and not while the page
// is hidden.

import { dateOf, learnTime, now } from "/shared/clock.js";

const INTERVAL_S = 3;
const RETRY_S_MAX = 60;
const TIMEOUT_MS = 10_000;
/** A poll's file exists a minute after its opening at the latest. An earlier request would miss the cache. */
const FILE_S = 60;

/** Replaces `AbortSignal.timeout`, which some phones lack. */
export function deadline(ms) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}

let loading = null;

/** Loads /config.json, which is written at publication. */
export function config() {
  loading ??= fetch("/config.json", { signal: deadline(TIMEOUT_MS) }).then((response) => {
    if (!response.ok) throw new Error(`config.json: ${response.status}`);
    return response.json();
  });
  loading.catch(() => (loading = null));
  return loading;
}

const isOffline = () => navigator.onLine === false;

export class Feed {
  #timer = null;
  #pending = null;
  #failures = 0;
  #tag = null;
  #running = false;
  #due = 0;

  /**
   * `url()`: resolves to the address, or null for none now. `onData(body, dateMs)`: a new body; returns false to reject
   * it. `onState("ok" | "offline" | "failing")`: on change. `onRefused(status, code, dateMs)`: an error answer; returns
   * the seconds until the next request, `Infinity` to stop, null for a failure. `pace(seconds)`: maps the edge's TTL to the
   * interval.
   */
  constructor({ url, onData, onState = () => {}, onRefused = () => null, pace = (seconds) => seconds }) {
    Object.assign(this, { url, onData, onState, onRefused, pace, state: "ok" });
  }

  start() {
    if (this.#running) return this;
    this.#running = true;
    for (const name of ["online", "offline"]) addEventListener(name, this);
    document.addEventListener("visibilitychange", this);
    this.#request();
    return this;
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#pending?.abort();
    for (const name of ["online", "offline"]) removeEventListener(name, this);
    document.removeEventListener("visibilitychange", this);
  }

  handleEvent() {
    if (isOffline()) return this.#setState("offline");
    clearTimeout(this.#timer);
    if (!document.hidden) this.#schedule(Math.max(0, this.#due - performance.now()) / 1000 || Math.random());
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.onState(state);
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
      if (!url) return this.#schedule(this.pace(INTERVAL_S));
      const response = await fetch(url, { cache: "no-cache", signal: pending.signal });
      learnTime(response);
      if (!this.#running) return;
      if (response.ok) await this.#take(response);
      else await this.#refuse(response);
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
    const lifetime = response.headers.get("cache-control") ?? "";
    const interval = Number(/s-maxage=(\d+)/.exec(lifetime)?.[1] ?? /max-age=(\d+)/.exec(lifetime)?.[1] ?? INTERVAL_S);
    this.#failures = 0;
    this.#setState("ok");
    const isKnown = tag && tag === this.#tag;
    this.#tag = isKnown || this.onData(body, dateOf(response)) !== false ? tag : null;
    this.#schedule(this.pace(Math.max(1, interval)) * (1 + Math.random() / 2));
  }

  async #refuse(response) {
    const body = await response.json().catch(() => null);
    if (!this.#running) return;
    // A refusal may hide the data: the next body is new, whatever its tag.
    this.#tag = null;
    const seconds = this.onRefused(response.status, body?.error?.code, dateOf(response));
    if (seconds === null) this.#fail("failing");
    else if (seconds === Infinity) this.stop();
    else this.#schedule(seconds);
  }

  #fail(state) {
    this.#failures += 1;
    this.#setState(state);
    this.#schedule(Math.min(RETRY_S_MAX, 2 ** this.#failures) * (0.5 + Math.random()));
  }
}

// A poll's standing: from its file if there is one, else from the ranking; never both at a time.

/** Returns whether a poll's standing is public in a status. */
export function isShown({ results }, status) {
  return results === "live" || (results === "afterClose" && status === "closed");
}

/**
 * Returns a feed of a poll's file or ranking, not started. `shown`: whether the standing is public; the file has the
 * turnout even if not. `onData(body)`, `pace(seconds)`: as in `Feed`. A null ranking hides the standing: the service may
 * withhold it before this page has the poll's new definition.
 */
export function followStanding({ poll: { id, opensAt }, shown, onData, pace = (seconds) => seconds }) {
  let misses = 0;
  const fileDelayMs = () => FILE_S * 1000 * 2 ** misses * (1 + Math.random() / 2);
  let fileDue = Date.parse(opensAt) + fileDelayMs();
  let file = null;
  let requested = null;
  let withheldMs = 0;
  return new Feed({
    async url() {
      const { api, results } = await config();
      file = results?.replace("{id}", id) ?? null;
      if (file && now() >= fileDue) requested = file;
      else requested = shown ? `${api}/polls/${id}/ranking` : null;
      return requested;
    },
    // Rejects a cached body from before the standing was hidden.
    onData: (body, dateMs) => !(dateMs <= withheldMs) && onData(body),
    pace,
    onRefused(status, code, dateMs) {
      if (code === "resultsWithheld") {
        withheldMs = dateMs;
        onData({ ranking: null });
        return pace(INTERVAL_S) * (1 + Math.random());
      }
      if (status !== 404 && status !== 403) return null;
      if (requested !== file) return file ? fileDelayMs() / 1000 : Infinity;
      fileDue = now() + fileDelayMs();
      misses += 1;
      return 0;
    },
  });
}
