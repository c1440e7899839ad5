// A poll's live figures: plots, an alarm when counting has stopped, and the state of the certification. To add a
// figure: 1. a name in `names`, 2. its `add` in `#sample`, 3. the text `control.plot.<name>` in every language.

import { call } from "/control/api.js";
import { el, setText } from "/shared/dom.js";
import { formatNumber, formatShare, t } from "/shared/text.js";
import { formatWhen } from "/control/texts.js";
import { Plot } from "/control/plot.js";

const INTERVAL_MS = 2_000;
/** The batch window is 3 s: a rate over a shorter time would jump between zero and peaks. */
const RATE_MS = 10_000;

/** Returns the text of a key, or `otherwise` if there is none. */
function textOr(key, values, otherwise) {
  const text = t(key, values);
  return text === key ? otherwise : text;
}

/** Returns the text of a common reason; rare ones are shown by their name in the API. */
const reasonText = (reason) => textOr(`control.reason.${reason}`, {}, reason);

/** Adds the taps of a sent vote to a note, where votes stand for several. */
function turnoutText({ votes, casts }, note) {
  const taps = Math.round((10 * votes) / casts) / 10;
  return taps > 1 ? `${note} · ${t("control.note.taps", { n: taps })}` : note;
}

/** Returns the alarm when counting has stopped, else an empty text. */
function stoppedText({ state, waiting, since } = {}) {
  if (state !== "stopped") return "";
  const text = waiting ? t("control.stoppedWaiting", { n: waiting }) : t("control.stopped");
  return since ? `${text} ${t("control.stoppedSince", { when: formatWhen(Date.parse(since)) })}` : text;
}

/** Returns the cause of a pending certification: its text here, else the service's message; empty if none is pending. */
function waitsText(certification) {
  if (!certification) return "";
  const { waitsFor, sign, until, message } = certification;
  const key = `control.waits.${waitsFor}`;
  const text = textOr(sign ? `${key}.${sign}` : key, {}, textOr(key, {}, message));
  return until ? `${text} ${t("control.waitsUntil", { when: formatWhen(Date.parse(until)) })}` : text;
}

export class Live {
  #timer = null;
  #samples = [];
  #stopped = false;
  #turnout = null;

  /** `onLive(live)`: called with each answer. */
  constructor(path, { onLive }) {
    // The cause of a pending certification, as a sentence.
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

  /** Takes the turnout of the poll's file. */
  setTurnout({ voters: n, votersError: error }) {
    if (n !== null) this.#turnout = error ? t("turnoutAbout", { n, error: formatShare(error) }) : t("turnout", { n });
  }

  async #watch() {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    if (!document.hidden) await this.#sample().catch(() => Object.values(this.plots).forEach((plot) => plot.add(null)));
    if (!this.#stopped) this.#timer = setTimeout(() => this.#watch(), INTERVAL_MS);
  }

  async #sample() {
    const live = await call("GET", `${this.path}/live`);
    if (this.#stopped) return;
    this.plots.rate.add(this.#rate(Date.parse(live.asOf), live.votes), t("control.note.rate"));
    const { queue } = live;
    this.plots.queue.add(queue?.messages ?? null, t(queue ? "control.note.queue" : "control.note.noQueue"));
    const lag = live.rankingVotes === null ? null : Math.max(0, live.votes - live.rankingVotes);
    this.plots.lag.add(lag, t(lag === null ? "control.note.noRanking" : "control.note.lag"));
    const reasons = Object.entries(live.rejected).sort((a, b) => b[1] - a[1]);
    const rejected = reasons.reduce((sum, [, count]) => sum + count, 0);
    const note = reasons.map(([reason, count]) => `${reasonText(reason)} ${formatNumber(count)}`).join(", ");
    this.plots.rejected.add(rejected, note || t("control.note.rejected"));
    this.plots.turnout.add(live.votes, turnoutText(live, this.#turnout ?? t("control.note.turnout")));
    this.#show(this.stopped, stoppedText(live.counting));
    this.waitsFor = waitsText(live.certification);
    this.#show(this.waits, this.waitsFor && `${t("control.notCertified")} ${this.waitsFor}`);
    this.onLive(live);
  }

  #show(element, text) {
    setText(element, text);
    element.hidden = !text;
  }

  /** Returns the votes per second over the last 10 s or since the first sample; null with fewer than two samples. */
  #rate(at, votes) {
    this.#samples.push({ at, votes });
    while (this.#samples.length > 2 && this.#samples[1].at <= at - RATE_MS) this.#samples.shift();
    const [since] = this.#samples;
    return at > since.at ? Math.max(0, Math.round(((votes - since.votes) * 1000) / (at - since.at))) : null;
  }
}
