// Polling of public files: at the pace that each file states, with jitter, with backoff after failures, and not while the
// page is hidden.

import { MISSING, TIMEOUT_MS } from "/shared/files.js";
import { learnTime } from "/shared/clock.js";

/** As long as the edge keeps a file. */
const INTERVAL_S = 3;
const RETRY_S_MAX = 60;

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
