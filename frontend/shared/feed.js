// Public reads: where they are, and how they are asked for again and again. A feed asks no faster than the edge's copy gets older, spreads a crowd's requests,
// asks less and less while there is no answer, and not at all while nobody looks.

import { learnTime, madeAt, now } from "/shared/clock.js";

const PACE_S = 3;
const RETRY_S_MAX = 60;
const TIMEOUT_MS = 10_000;
/** A poll has its file a minute after its opening at the latest. Asked for earlier, the edge would have no copy. */
const FILE_S = 60;

/** A signal that gives a request up after some milliseconds. `AbortSignal.timeout` is newer than some phones. */
export function deadline(ms) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}

let loading = null;

/** Where the pages run: /config.json, written when they are published. */
export function config() {
  loading ??= fetch("/config.json", { signal: deadline(TIMEOUT_MS) }).then((response) => {
    if (!response.ok) throw new Error(`config.json: ${response.status}`);
    return response.json();
  });
  loading.catch(() => (loading = null));
  return loading;
}

const isDown = () => navigator.onLine === false;

export class Feed {
  #timer = null;
  #asking = null;
  #failures = 0;
  #tag = null;
  #running = false;
  #due = 0;

  /**
   * `url()`: a promise of what to ask; of null where there is nothing now. `onData(body, madeMs)`: something new;
   * it gives false for a body that it does not take. `onState("ok" | "offline" | "failing")`: on change.
   * `onRefused(status, code, madeMs)`: an answer other than success. It says in how many seconds to ask again,
   * `Infinity` if never, and null if that is a failure. `slower()`: how many times the pace. `madeMs`: when the answer
   * was made, by the server's clock; NaN if the answer does not say.
   */
  constructor({ url, onData, onState = () => {}, onRefused = () => null, slower = () => 1 }) {
    Object.assign(this, { url, onData, onState, onRefused, slower, state: "ok" });
  }

  start() {
    if (this.#running) return this;
    this.#running = true;
    for (const name of ["online", "offline"]) addEventListener(name, this);
    document.addEventListener("visibilitychange", this);
    this.#ask();
    return this;
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#asking?.abort();
    for (const name of ["online", "offline"]) removeEventListener(name, this);
    document.removeEventListener("visibilitychange", this);
  }

  handleEvent() {
    if (isDown()) return this.#enter("offline");
    clearTimeout(this.#timer);
    if (!document.hidden) this.#again(Math.max(0, this.#due - performance.now()) / 1000 || Math.random());
  }

  #enter(state) {
    if (state === this.state) return;
    this.state = state;
    this.onState(state);
  }

  #again(seconds) {
    clearTimeout(this.#timer);
    if (!this.#running) return;
    this.#due = performance.now() + seconds * 1000;
    if (!document.hidden) this.#timer = setTimeout(() => this.#ask(), seconds * 1000);
  }

  async #ask() {
    if (this.#asking) return;
    const asking = (this.#asking = new AbortController());
    const patience = setTimeout(() => asking.abort(), TIMEOUT_MS);
    try {
      // The browser's copy is asked about, not shown: the edge answers 304 from its own.
      const url = await this.url();
      if (!url) return this.#again(PACE_S * this.slower());
      const response = await fetch(url, { cache: "no-cache", signal: asking.signal });
      learnTime(response);
      if (!this.#running) return;
      if (response.ok) await this.#take(response);
      else await this.#refuse(response);
    } catch {
      if (this.#running) this.#fail(isDown() ? "offline" : "failing");
    } finally {
      clearTimeout(patience);
      this.#asking = null;
    }
  }

  async #take(response) {
    const tag = response.headers.get("etag");
    const body = await response.json();
    if (!this.#running) return;
    const lifetime = response.headers.get("cache-control") ?? "";
    const pace = Number(/s-maxage=(\d+)/.exec(lifetime)?.[1] ?? /max-age=(\d+)/.exec(lifetime)?.[1] ?? PACE_S);
    this.#failures = 0;
    this.#enter("ok");
    const isKnown = tag && tag === this.#tag;
    this.#tag = isKnown || this.onData(body, madeAt(response)) !== false ? tag : null;
    this.#again(Math.max(1, pace) * this.slower() * (1 + Math.random() / 2));
  }

  async #refuse(response) {
    const body = await response.json().catch(() => null);
    if (!this.#running) return;
    // A refusal may take off what was shown. So the next body is new, whatever its tag.
    this.#tag = null;
    const seconds = this.onRefused(response.status, body?.error?.code, madeAt(response));
    if (seconds === null) this.#fail("failing");
    else if (seconds === Infinity) this.stop();
    else this.#again(seconds);
  }

  #fail(state) {
    this.#failures += 1;
    this.#enter(state);
    this.#again(Math.min(RETRY_S_MAX, 2 ** this.#failures) * (0.5 + Math.random()));
  }
}

// How a poll stands: from its file, where there is one, else from the ranking. One request at a time, never both.

/** Whether everyone may see how a poll stands, `status` being where it is in its window. */
export function isShown({ results }, status) {
  return results === "live" || (results === "afterClose" && status === "closed");
}

/**
 * A feed of a poll's file or ranking, to be started. `shown`: whether the standing is public; where it is not, the file
 * still has the turnout. `onData(body)`, `slower()`: as in any feed. A body whose ranking is null takes the standing
 * off: the service may refuse the standing before the poll's definition says so, or while no definition comes.
 */
export function followStanding({ poll: { id, opensAt }, shown, onData, slower = () => 1 }) {
  let misses = 0;
  const patienceMs = () => FILE_S * 1000 * 2 ** misses * (1 + Math.random() / 2);
  let fileDue = Date.parse(opensAt) + patienceMs();
  let file = null;
  let asked = null;
  let withheldMs = 0;
  return new Feed({
    async url() {
      const { api, results } = await config();
      file = results?.replace("{id}", id) ?? null;
      if (file && now() >= fileDue) asked = file;
      else asked = shown ? `${api}/polls/${id}/ranking` : null;
      return asked;
    },
    // An edge may have kept a body from before the crew hid the standing.
    onData: (body, madeMs) => !(madeMs <= withheldMs) && onData(body),
    slower,
    onRefused(status, code, madeMs) {
      if (code === "resultsWithheld") {
        withheldMs = madeMs;
        onData({ ranking: null });
        return PACE_S * slower() * (1 + Math.random());
      }
      if (status !== 404 && status !== 403) return null;
      if (asked !== file) return file ? patienceMs() / 1000 : Infinity;
      fileDue = now() + patienceMs();
      misses += 1;
      return 0;
    },
  });
}
