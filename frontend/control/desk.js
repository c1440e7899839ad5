// One poll on the crew's desk: its bell, its figures, its books, its definition.

import { backlog, call } from "/control/api.js";
import { confirmed } from "/control/confirm.js";
import { countdown, now, statusOf } from "/shared/clock.js";
import { el, find, say } from "/shared/dom.js";
import { formatMoment, formatNumber, t } from "/shared/text.js";
import { Plot } from "/control/plot.js";
import { pollForm } from "/control/form.js";

/** How long a bell rings ahead: the change is public at once, so everyone counts down, and it can be taken back. */
export const BELL_MS = 10_000;
const WATCH_MS = 2_000;
const SOON_MS = 10_000;
const DAY_MS = 86_400_000;

export class Desk {
  #undo = null;
  #timer = null;
  #last = null;

  /** `onChange(poll)`: it is defined otherwise now. `onGone()`: deleted. `crew`: what the backend offers beyond. */
  constructor(poll, { onChange, onGone, announce, crew }) {
    Object.assign(this, { poll, onChange, onGone, announce });
    this.state = el("p", { class: "state" });
    this.title = el("h2", {});
    this.bell = el("p", { class: "bell", role: "timer" }, el("span", {}), el("span", { class: "numeral" }));
    this.open = el("button", { type: "button", class: "go", id: "open", onclick: () => this.#ring("open") }, t("control.open"));
    this.close = el("button", { type: "button", class: "go", id: "close", onclick: () => this.#ring("close") }, t("control.close"));
    this.back = el("button", { type: "button", class: "undo", id: "undo", hidden: true, onclick: () => this.#takeBack() });
    this.problem = el("p", { class: "problem", role: "alert" });
    this.plots = {
      rate: new Plot(t("control.plot.rate")),
      queue: new Plot(t("control.plot.queue")),
      lag: new Plot(t("control.plot.lag")),
      rejected: new Plot(t("control.plot.rejected")),
      turnout: new Plot(t("control.plot.turnout")),
    };
    this.verdict = el("p", { class: "verdict", id: "verdict", role: "status" }, t("control.unaudited"));
    this.books = el("div", { class: "books" }, this.verdict, ...this.#bookButtons(crew));
    this.formPlace = el("div", {});
    this.remove = el("button", { type: "button", class: "danger", id: "delete", onclick: () => this.#delete() }, t("control.delete"));
    this.elements = [
      el("div", { class: "onair" }, el("div", {}, this.state, this.title), this.bell),
      el("div", { class: "actions" }, this.open, this.close, this.back),
      this.problem,
      el("div", { class: "plots" }, ...Object.values(this.plots).map((plot) => plot.element)),
      this.books,
      this.formPlace,
      el("div", { class: "actions" }, this.remove),
    ];
    this.#showForm();
    this.update(poll);
    this.#watch();
  }

  stop() {
    clearTimeout(this.#timer);
    this.stopped = true;
  }

  update(poll) {
    this.poll = poll;
    say(this.title, `${poll.id} · ${poll.title}`);
    this.tick();
  }

  /** Once a second. */
  tick() {
    const status = statusOf(this.poll);
    const ringing = this.#undo && now() < this.#undo.until;
    this.state.className = `state ${status}`;
    say(this.state, t(`state.${status}`));
    // Not disabled while a bell rings: a button that is pressed must not lose the keyboard.
    this.open.hidden = status === "open";
    this.close.hidden = status !== "open";
    this.open.disabled = this.close.disabled = Boolean(ringing);
    if (this.#undo && !ringing) this.#endUndo();
    if (ringing) {
      say(this.back, t(`control.undo.${this.#undo.kind}`, { n: Math.ceil((this.#undo.until - now()) / 1000) }));
    }
    this.#showBell(status);
  }

  #showBell(status) {
    const [label, number] = this.bell.children;
    const until = Date.parse(status === "scheduled" ? this.poll.opensAt : this.poll.closesAt);
    const verb = status === "scheduled" ? "opens" : "closes";
    const left = until - now();
    const counts = left > 0 && left < DAY_MS;
    this.bell.classList.toggle("soon", counts && left <= SOON_MS);
    say(number, counts ? countdown(until) : "");
    if (Number.isNaN(until)) say(label, t(status === "scheduled" ? "control.unscheduled" : "control.untilClosed"));
    else if (counts) say(label, t(`bell.${verb}`));
    else say(label, t(left > 0 ? `bell.${verb}At` : "bell.closed", { when: formatMoment(until) }));
  }

  /** Tries something and says what stood against it. */
  async #attempt(work) {
    try {
      say(this.problem, "");
      return (await work()) ?? true;
    } catch (error) {
      say(this.problem, error.message);
      return null;
    }
  }

  async #change(body) {
    const poll = await this.#attempt(() => call("PATCH", `/admin/polls/${this.poll.id}`, body));
    if (poll) this.onChange(poll);
    return poll;
  }

  /** Sets the bell some seconds ahead. Reopening is at once: a later opening would refuse votes already cast. */
  async #ring(kind) {
    const { opensAt, closesAt } = this.poll;
    const reopening = kind === "open" && statusOf(this.poll) === "closed";
    if (reopening && !(await confirmed(t("control.reopen"), t("control.reopenText"), t("control.reopen")))) return;
    const at = new Date(now() + BELL_MS);
    const bodies = {
      close: { closesAt: at },
      open: { opensAt: at, ...(closesAt && Date.parse(closesAt) <= at ? { closesAt: null } : {}) },
    };
    const poll = await this.#change(reopening ? { closesAt: null } : bodies[kind]);
    if (!poll) return;
    this.#undo = { kind: reopening ? "reopen" : kind, until: at.getTime(), body: { opensAt, closesAt } };
    this.back.hidden = false;
    this.tick();
    this.back.focus();
    this.announce(t(`control.ringing.${kind}`, { n: BELL_MS / 1000 }));
  }

  async #takeBack() {
    const undo = this.#undo;
    if (!undo) return;
    if (await this.#change(undo.body)) {
      this.announce(t("control.undone"));
      this.#endUndo();
      this.tick();
    }
  }

  #endUndo() {
    const focused = document.activeElement === this.back;
    this.#undo = null;
    this.back.hidden = true;
    this.open.disabled = this.close.disabled = false;
    if (focused) (this.open.hidden ? this.close : this.open).focus();
  }

  async #watch() {
    clearTimeout(this.#timer);
    if (this.stopped) return;
    if (!document.hidden) await this.#sample().catch(() => Object.values(this.plots).forEach((plot) => plot.add(null)));
    if (!this.stopped) this.#timer = setTimeout(() => this.#watch(), WATCH_MS);
  }

  async #sample() {
    const [live, queued] = await Promise.all([call("GET", `/admin/polls/${this.poll.id}/live`), backlog()]);
    const at = Date.parse(live.asOf);
    const last = this.#last;
    const seconds = last && (at - last.at) / 1000;
    this.#last = { at, votes: live.votes };
    this.plots.rate.add(last ? Math.max(0, Math.round((live.votes - last.votes) / seconds)) : null, t("control.note.rate"));
    this.plots.queue.add(queued, t(queued === null ? "control.note.noQueue" : "control.note.queue"));
    const behind = live.rankingVotes === null ? null : Math.max(0, live.votes - live.rankingVotes);
    this.plots.lag.add(behind, t(behind === null ? "control.note.noRanking" : "control.note.lag"));
    const reasons = Object.entries(live.rejected).sort((a, b) => b[1] - a[1]);
    const rejected = reasons.reduce((sum, [, count]) => sum + count, 0);
    this.plots.rejected.add(rejected, reasons.map(([reason, count]) => `${reason} ${formatNumber(count)}`).join(", "));
    this.plots.turnout.add(live.votes, t("control.note.turnout"));
  }

  #bookButtons(crew) {
    const button = (id, run) => el("button", { type: "button", id, onclick: run }, t(`control.${id}`));
    const path = () => `/admin/polls/${this.poll.id}`;
    const buttons = [
      button("audit", () => this.#audit("GET")),
      button("rebuild", async () => {
        const yes = await confirmed(t("control.rebuild"), t("control.rebuildText"), t("control.rebuild"));
        if (yes) await this.#audit("POST");
      }),
    ];
    for (const work of crew) {
      buttons.push(button(work, async () => {
        if (!(await confirmed(t(`control.${work}`), t(`control.${work}Text`), t(`control.${work}`)))) return;
        const answer = await this.#attempt(() => call("POST", `${path()}/${work}`));
        if (answer) this.#tell(work, answer);
      }));
    }
    return buttons;
  }

  #tell(work, answer) {
    if (work !== "export") return say(this.verdict, t(`control.${work}Done`));
    const { status, votes, totalVotes, failure, url } = answer;
    const figures = { votes: formatNumber(votes), total: formatNumber(totalVotes ?? 0), failure };
    const outcome = status[0].toUpperCase() + status.slice(1);
    say(this.verdict, t(`control.export${outcome}`, figures));
    if (url) this.verdict.append(" ", el("a", { href: url, rel: "noreferrer" }, t("control.exportLink")));
  }

  async #audit(method) {
    say(this.verdict, t("control.auditing"));
    const path = method === "GET" ? "audit" : "rebuild";
    const audit = await this.#attempt(() => call(method, `/admin/polls/${this.poll.id}/${path}`));
    this.verdict.classList.toggle("wrong", Boolean(audit) && !audit.inSync);
    if (!audit) return say(this.verdict, t("control.unaudited"));
    const { ledgerVotes, tallyVotes, rankingVotes } = audit;
    const values = { n: ledgerVotes, tally: tallyVotes, ranking: rankingVotes };
    say(this.verdict, t(audit.inSync ? "control.inSync" : "control.outOfSync", values));
  }

  async #delete() {
    const text = t("control.deleteText", { title: this.poll.title });
    if (!(await confirmed(t("control.delete"), text, t("control.delete")))) return;
    if (await this.#attempt(() => call("DELETE", `/admin/polls/${this.poll.id}`))) this.onGone();
  }

  #showForm() {
    this.formPlace.replaceChildren(
      pollForm(this.poll, async (changes) => {
        if (!Object.keys(changes).length) return this.announce(t("control.nothingChanged"));
        this.onChange(await call("PATCH", `/admin/polls/${this.poll.id}`, changes));
        this.#showForm();
        find(".strong", this.formPlace).focus();
        this.announce(t("control.saved"));
      }),
    );
  }
}
