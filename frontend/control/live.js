// What a poll's votes do now: its plots, whether anything counts them, and what its certification waits for.

import { call } from "/control/api.js";
import { el, say } from "/shared/dom.js";
import { formatNumber, formatShare, t } from "/shared/text.js";
import { formatWhen } from "/control/words.js";
import { Plot } from "/control/plot.js";

const WATCH_MS = 2_000;
/** Batches are counted every 3 s: a rate over less would jump between nothing and too much. */
const RATE_MS = 10_000;

/** A text if there is one of this key. */
function textOr(key, values, otherwise) {
  const text = t(key, values);
  return text === key ? otherwise : text;
}

/** What viewers and the show can bring about has words of its own; the rest is for whoever reads the contract. */
const reasonText = (reason) => textOr(`control.reason.${reason}`, {}, reason);

/** The sentence about a consumer that has stopped; empty where it has not. */
function stoppedText({ state, waiting, since } = {}) {
  if (state !== "stopped") return "";
  const text = waiting ? t("control.stoppedWaiting", { n: waiting }) : t("control.stopped");
  return since ? `${text} ${t("control.stoppedSince", { when: formatWhen(Date.parse(since)) })}` : text;
}

/** What certification waits for, in words; empty where it does not wait. What has none here says it in the service's. */
function waitsText(certification) {
  if (!certification) return "";
  const { waitsFor, sign, until, message } = certification;
  const key = `control.waits.${waitsFor}`;
  const text = textOr(sign ? `${key}.${sign}` : key, {}, textOr(key, {}, message));
  return until ? `${text} ${t("control.waitsUntil", { when: formatWhen(Date.parse(until)) })}` : text;
}

export class Live {
  #timer = null;
  #seen = [];
  #stopped = false;
  #turnout = null;

  /** `onLive(live)`: each answer. */
  constructor(path, { onLive }) {
    // What certification waits for, in a sentence.
    this.waitsFor = "";
    Object.assign(this, { path, onLive });
    const plot = (name) => new Plot(t(`control.plot.${name}`));
    const names = ["rate", "queue", "lag", "rejected", "turnout"];
    this.plots = Object.fromEntries(names.map((name) => [name, plot(name)]));
    this.stopped = el("p", { class: "alarm", id: "counting", role: "alert", hidden: true });
    this.waits = el("p", { class: "waits", id: "waits", role: "status", hidden: true });
    this.element = el("div", { class: "plots" }, ...Object.values(this.plots).map((plot) => plot.element));
    this.#watch();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#stopped = true;
  }

  /** Of the poll's file. */
  setTurnout({ voters: n, votersError: error }) {
    if (n !== null) this.#turnout = error ? t("turnoutAbout", { n, error: formatShare(error) }) : t("turnout", { n });
  }

  async #watch() {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    if (!document.hidden) await this.#sample().catch(() => Object.values(this.plots).forEach((plot) => plot.add(null)));
    if (!this.#stopped) this.#timer = setTimeout(() => this.#watch(), WATCH_MS);
  }

  async #sample() {
    const live = await call("GET", `${this.path}/live`);
    if (this.#stopped) return;
    this.plots.rate.add(this.#rate(Date.parse(live.asOf), live.votes), t("control.note.rate"));
    const { queue } = live;
    this.plots.queue.add(queue?.messages ?? null, t(queue ? "control.note.queue" : "control.note.noQueue"));
    const behind = live.rankingVotes === null ? null : Math.max(0, live.votes - live.rankingVotes);
    this.plots.lag.add(behind, t(behind === null ? "control.note.noRanking" : "control.note.lag"));
    const reasons = Object.entries(live.rejected).sort((a, b) => b[1] - a[1]);
    const rejected = reasons.reduce((sum, [, count]) => sum + count, 0);
    const note = reasons.map(([reason, count]) => `${reasonText(reason)} ${formatNumber(count)}`).join(", ");
    this.plots.rejected.add(rejected, note || t("control.note.rejected"));
    this.plots.turnout.add(live.votes, this.#turnout ?? t("control.note.turnout"));
    this.#tell(this.stopped, stoppedText(live.counting));
    this.waitsFor = waitsText(live.certification);
    this.#tell(this.waits, this.waitsFor && `${t("control.notCertified")} ${this.waitsFor}`);
    this.onLive(live);
  }

  #tell(element, text) {
    say(element, text);
    element.hidden = !text;
  }

  /** Votes per second since the sample before the last 10 s, or the first; null before there are two. */
  #rate(at, votes) {
    this.#seen.push({ at, votes });
    while (this.#seen.length > 2 && this.#seen[1].at <= at - RATE_MS) this.#seen.shift();
    const [since] = this.#seen;
    return at > since.at ? Math.max(0, Math.round(((votes - since.votes) * 1000) / (at - since.at))) : null;
  }
}
