// One poll on the crew's desk: its bell, its figures, its books, its definition.

import { Bells } from "/control/bells.js";
import { Books } from "/control/books.js";
import { exchange, Refusal } from "/control/api.js";
import { Certification } from "/control/certify.js";
import { archive, remove, withdraw } from "/control/retire.js";
import { countdown, now, statusOf } from "/shared/clock.js";
import { el, find, say } from "/shared/dom.js";
import { Errata } from "/control/errata.js";
import { followStanding } from "/shared/standing.js";
import { formatMoment, t } from "/shared/text.js";
import { formatWhen } from "/control/words.js";
import { Journal } from "/control/journal.js";
import { Live } from "/control/live.js";
import { PollForm } from "/control/form.js";

const SOON_MS = 10_000;
const DAY_MS = 86_400_000;
/** A certified poll's file changes only where a vote comes late. */
const FINAL_SLOWER = 10;
const NOT_FOUND = 404;

/** What a poll is to the crew: `draft`, `scheduled`, `open` or `closed`. */
export function stateOf(poll) {
  const status = statusOf(poll);
  return poll.draft && status === "scheduled" ? "draft" : status;
}

/** The versions are numbers in quotes. An answer that was overtaken by a newer one is told by them. */
const isOlder = (version, than) => Boolean(version && than) && Number(version.slice(1, -1)) < Number(than.slice(1, -1));

export class Desk {
  /**
   * Of a poll as `exchange` gives it. `onChange(poll)`: it is defined otherwise now. `onGone()`: deleted. `crew`: what the
   * backend offers beyond.
   */
  constructor({ answer: poll, version }, { onChange, onGone, crew }) {
    Object.assign(this, { poll, version, onChange, onGone, path: `/admin/polls/${poll.id}`, stopped: false });
    this.badge = el("p", { class: "state" });
    this.title = el("h2", {}, `${poll.id} · `, el("bdi", {}));
    this.bell = el("p", { class: "bell", role: "timer" }, el("span", {}), el("span", { class: "numeral" }));
    this.problem = el("p", { class: "problem", role: "alert" });
    this.bells = new Bells(this);
    this.live = new Live(this.path, { onLive: (live) => this.certification.takeLive(live) });
    this.books = new Books(this, { canExport: crew.includes("export") });
    this.certification = new Certification(this, { canCertify: crew.includes("certify"), onCertified: () => this.tick() });
    this.errata = new Errata(this);
    this.journal = new Journal(this);
    this.form = new PollForm({
      save: async (body, version) => {
        const saved = await exchange("PATCH", this.path, body, version);
        this.take(saved);
        return saved;
      },
      load: () => this.#load(),
      withdraw: (number, name) => withdraw(this, number, name),
    });
    this.archive = el("button", { type: "button", id: "archive", onclick: () => archive(this) }, t("control.archive"));
    const removal = { type: "button", class: "danger", id: "delete", onclick: () => this.#remove() };
    this.remove = el("button", removal, t("control.delete"));
    this.elements = this.#arranged();
    // Its file alone, which has the turnout and the certificate whoever may see the standing.
    const slower = () => (this.certification.certified ? FINAL_SLOWER : 1);
    this.file = followStanding({ poll, shown: false, slower, onData: (body) => this.#takeFile(body) }).start();
    this.#show();
  }

  #arranged() {
    const { verdict, buttons } = this.books;
    const { button, certificate, late } = this.certification;
    return [
      el("div", { class: "onair" }, el("div", {}, this.badge, this.title), this.bell),
      this.bells.element,
      this.live.stopped,
      this.problem,
      this.live.element,
      el("div", { class: "books" }, verdict, ...buttons, ...(button ? [button] : []), this.live.waits, certificate, late),
      this.errata.element,
      this.form.element,
      this.journal.element,
      el("div", { class: "actions last" }, this.archive, this.remove),
    ];
  }

  /** `draft`, `scheduled`, `open`, `closed` or `certified`. */
  get state() {
    return this.certification.certified ? "certified" : stateOf(this.poll);
  }

  stop() {
    this.live.stop();
    this.file.stop();
    this.stopped = true;
  }

  /** Takes the poll of an exchange, unless a newer one is here already. */
  take({ answer: poll, version }) {
    if (this.stopped || isOlder(version, this.version)) return;
    Object.assign(this, { poll, version });
    this.#show();
    this.onChange(poll);
  }

  /** Asks for the poll as it is now. */
  async refresh() {
    try {
      await this.#load();
    } catch (error) {
      if (error.status === NOT_FOUND && !this.stopped) this.onGone();
    }
  }

  async #load() {
    const found = await exchange("GET", this.path);
    this.take(found);
    return found;
  }

  /** Tries something, and says what stood against it. Gives what it gives, and null where it failed. */
  async attempt(work) {
    try {
      say(this.problem, "");
      return (await work()) ?? true;
    } catch (error) {
      const conflict = error instanceof Refusal && error.code === "versionConflict";
      say(this.problem, conflict ? this.#changedText(error) : error.message);
      return null;
    }
  }

  #changedText({ details: { changedBy, changedAt } }) {
    this.refresh();
    const when = changedAt ? formatWhen(Date.parse(changedAt)) : "";
    return t(changedBy ? "control.lookAgainBy" : "control.lookAgain", { who: changedBy, when });
  }

  #show() {
    say(find("bdi", this.title), this.poll.title);
    this.form.show(this.poll, this.version);
    this.tick();
  }

  /** Once a second. */
  tick() {
    const { state, poll } = this;
    const opened = Boolean(poll.opensAt) && now() >= Date.parse(poll.opensAt);
    const certified = state === "certified";
    this.badge.className = `state ${state}`;
    say(this.badge, poll.archivedAt ? t("control.archivedState", { state: t(`state.${state}`) }) : this.#stateText(state));
    this.archive.hidden = !(state === "closed" || certified) || Boolean(poll.archivedAt);
    this.remove.hidden = opened || certified;
    this.form.setState({ opened, certified });
    for (const part of [this.bells, this.certification, this.errata, this.journal]) part.tick();
    this.#showBell(state);
  }

  #stateText(state) {
    if (state !== "draft") return t(`state.${state}`);
    const { opensAt } = this.poll;
    return opensAt ? t("control.draftUntil", { when: formatWhen(Date.parse(opensAt)) }) : t("control.draft");
  }

  #showBell(state) {
    const [label, number] = this.bell.children;
    const ahead = state === "scheduled" || state === "draft";
    const until = Date.parse(ahead ? this.poll.opensAt : this.poll.closesAt);
    const verb = ahead ? "opens" : "closes";
    const left = until - now();
    const counts = left > 0 && left < DAY_MS;
    this.bell.classList.toggle("soon", counts && left <= SOON_MS);
    say(number, counts ? countdown(until) : "");
    if (Number.isNaN(until)) say(label, t(ahead ? "control.unscheduled" : "control.untilClosed"));
    else if (counts) say(label, t(`bell.${verb}`));
    else say(label, t(left > 0 ? `bell.${verb}At` : "bell.closed", { when: formatMoment(until) }));
  }

  /** The poll's file. */
  #takeFile(file) {
    this.live.setTurnout(file.turnout);
    this.certification.take(file);
  }

  async #remove() {
    if (await remove(this)) this.onGone();
  }
}
