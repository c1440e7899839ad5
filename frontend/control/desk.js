// One poll on the crew's desk: its bell, its figures, its books, its definition.

import { call, Refusal } from "/control/api.js";
import { confirmed } from "/control/confirm.js";
import { countdown, now, statusOf } from "/shared/clock.js";
import { el, find, say } from "/shared/dom.js";
import { followStanding } from "/shared/standing.js";
import { formatMoment, formatNumber, formatShare, t } from "/shared/text.js";
import { Plot } from "/control/plot.js";
import { pollForm } from "/control/form.js";

/** How long a bell rings ahead: the change is public at once, so everyone counts down, and it can be taken back. */
export const BELL_MS = 10_000;
const WATCH_MS = 2_000;
/** Batches are counted every 3 s: a rate over less would jump between nothing and too much. */
const RATE_MS = 10_000;
const SOON_MS = 10_000;
const DAY_MS = 86_400_000;
/** Between two questions whether a certificate is made, where the poll is too large for one. */
const CERTIFY_MS = 2_000;

/** What viewers and the show can bring about has words of its own; the rest is for whoever reads the contract. */
function reasonText(reason) {
  const key = `control.reason.${reason}`;
  return t(key) === key ? reason : t(key);
}

export class Desk {
  #undo = null;
  #timer = null;
  #seen = [];
  #turnout = null;
  #certified = false;

  /** `onChange(poll)`: it is defined otherwise now. `onGone()`: deleted. `crew`: what the backend offers beyond. */
  constructor(poll, { onChange, onGone, announce, crew }) {
    Object.assign(this, { poll, onChange, onGone, announce });
    this.state = el("p", { class: "state" });
    this.title = el("h2", {}, "", el("bdi", {}));
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
    this.certificate = el("p", { class: "certificate", id: "certificate", role: "status", hidden: true });
    this.books = el("div", { class: "books" }, this.verdict, ...this.#bookButtons(crew), this.certificate);
    this.formPlace = el("div", {});
    this.remove = el("button", { type: "button", class: "danger", id: "delete", onclick: () => this.#delete() }, t("control.delete"));
    this.elements = [
      el("div", { class: "onair" }, el("div", {}, this.state, this.title), this.bell),
      el("div", { class: "actions bells" }, this.open, this.close, this.back),
      this.problem,
      el("div", { class: "plots" }, ...Object.values(this.plots).map((plot) => plot.element)),
      this.books,
      this.formPlace,
      el("div", { class: "actions last" }, this.remove),
    ];
    this.#showForm();
    // Its file alone, which has the turnout and the certificate whoever may see the standing.
    this.file = followStanding({ poll, shown: false, onData: (body) => this.#take(body) }).start();
    this.update(poll);
    this.#watch();
  }

  stop() {
    clearTimeout(this.#timer);
    this.file.stop();
    this.stopped = true;
  }

  update(poll) {
    this.poll = poll;
    this.title.firstChild.data = `${poll.id} · `;
    say(find("bdi", this.title), poll.title);
    this.tick();
  }

  /** Once a second. */
  tick() {
    const status = this.#certified ? "certified" : statusOf(this.poll);
    const ringing = this.#undo && now() < this.#undo.until;
    this.state.className = `state ${status}`;
    say(this.state, t(`state.${status}`));
    // Not disabled while a bell rings: a button that is pressed must not lose the keyboard.
    this.open.hidden = status === "open" || status === "certified";
    this.close.hidden = status !== "open";
    if (this.certify) this.certify.hidden = status !== "closed";
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
    const live = await call("GET", `/admin/polls/${this.poll.id}/live`);
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
  }

  /** The poll's file. */
  #take({ turnout, certificate }) {
    const { voters: n, votersError: error } = turnout;
    if (n !== null) this.#turnout = error ? t("turnoutAbout", { n, error: formatShare(error) }) : t("turnout", { n });
    if (certificate) this.#showCertificate({ ...certificate, ...turnout });
  }

  #showCertificate({ certifiedAt, basis, digest, votes, voters }) {
    this.#certified = true;
    this.file.stop();
    const when = formatMoment(Date.parse(certifiedAt));
    const key = basis === "forced" ? "control.certifiedForced" : "control.certified";
    say(this.certificate, t(key, { when, n: votes, voters, digest }));
    this.certificate.hidden = false;
    this.tick();
  }

  /** Votes per second since the sample before the last 10 s, or the first; null before there are two. */
  #rate(at, votes) {
    this.#seen.push({ at, votes });
    while (this.#seen.length > 2 && this.#seen[1].at <= at - RATE_MS) this.#seen.shift();
    const [since] = this.#seen;
    return at > since.at ? Math.max(0, Math.round(((votes - since.votes) * 1000) / (at - since.at))) : null;
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
    if (crew.includes("certify")) buttons.push((this.certify = button("certify", () => this.#certify())));
    if (crew.includes("export")) {
      buttons.push(button("export", async () => {
        if (!(await confirmed(t("control.export"), t("control.exportText"), t("control.export")))) return;
        const answer = await this.#attempt(() => call("POST", `${path()}/export`));
        if (answer) this.#showExport(answer);
      }));
    }
    return buttons;
  }

  /** Certifies; where votes may be outstanding, only after a second question that says so. */
  async #certify() {
    const name = t("control.certify");
    if (!(await confirmed(name, t("control.certifyText"), name))) return;
    const done = await this.#attempt(async () => {
      try {
        return await this.#askToCertify({});
      } catch (error) {
        if (!(error instanceof Refusal) || error.code !== "votesOutstanding") throw error;
        // What the message says to callers of the API, how to send it anyway, is this dialog's own to say.
        const text = `${error.message.split(" Try again")[0]} ${t("control.forceText")}`;
        if (!(await confirmed(t("control.force"), text, t("control.force")))) return false;
        return this.#askToCertify({ force: true });
      }
    });
    if (done) this.announce(t("state.certified"));
  }

  async #askToCertify(wish) {
    for (;;) {
      const { certificate } = await call("POST", `/admin/polls/${this.poll.id}/certify`, wish);
      if (certificate) return this.#showCertificate(certificate), true;
      this.announce(t("control.certifying"));
      await new Promise((resolve) => setTimeout(resolve, CERTIFY_MS));
      if (this.stopped) return false;
    }
  }

  #showExport(answer) {
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
