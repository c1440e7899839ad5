// The desk: one poll's countdown, live figures, audit, certification and definition.

import { ApiError, request } from "/control/api.js";
import { Audit } from "/control/audit.js";
import { Certification } from "/control/certify.js";
import { archive, remove, withdraw } from "/control/removal.js";
import { countdown, now, statusOf } from "/shared/clock.js";
import { el, find, setText } from "/shared/dom.js";
import { Errata } from "/control/errata.js";
import { followFile } from "/shared/standing.js";
import { formatMoment, t } from "/shared/text.js";
import { formatWhen } from "/control/texts.js";
import { Journal } from "/control/journal.js";
import { Lifecycle } from "/control/lifecycle.js";
import { Live } from "/control/live.js";
import { PollForm } from "/control/form.js";

const SOON_MS = 10_000;
const DAY_MS = 86_400_000;
/** A complete certified file changes only after a late vote. */
const FINAL_S = 30;
const NOT_FOUND = 404;

/** Returns `draft`, `scheduled`, `open` or `closed`. */
export function stateOf(poll) {
  const status = statusOf(poll);
  return poll.draft && status === "scheduled" ? "draft" : status;
}

/** Returns whether an answer is older than another one. Versions are numbers in quotes. */
const isOlder = (version, than) => Boolean(version && than) && Number(version.slice(1, -1)) < Number(than.slice(1, -1));

export class Desk {
  /**
   * Takes a poll as `request` returns it. `onChange(poll)`: its definition changed. `onGone()`: it was deleted. `crew`: the
   * backend's optional actions.
   */
  constructor({ answer: poll, version }, { onChange, onGone, crew }) {
    Object.assign(this, { poll, version, onChange, onGone, path: `/admin/polls/${poll.id}`, stopped: false });
    this.badge = el("p", { class: "state" });
    this.title = el("h2", {}, `${poll.id} · `, el("bdi", {}));
    this.timer = el("p", { class: "timer", role: "timer" }, el("span", {}), el("span", { class: "numeral" }));
    this.problem = el("p", { class: "problem", role: "alert" });
    this.lifecycle = new Lifecycle(this);
    this.live = new Live(this.path, { onLive: (live) => this.certification.takeLive(live) });
    this.audit = new Audit(this, { canExport: crew.includes("export") });
    this.certification = new Certification(this, { canCertify: crew.includes("certify"), onCertified: () => this.tick() });
    this.errata = new Errata(this);
    this.journal = new Journal(this);
    this.form = new PollForm({
      save: async (body, version) => {
        const saved = await request("PATCH", this.path, body, version);
        this.take(saved);
        return saved;
      },
      load: () => this.#load(),
      withdraw: (number, name) => withdraw(this, number, name),
    });
    this.archive = el("button", { type: "button", id: "archive", onclick: () => archive(this) }, t("control.archive"));
    const removal = { type: "button", class: "danger", id: "delete", onclick: () => this.#remove() };
    this.remove = el("button", removal, t("control.delete"));
    this.elements = this.#arrange();
    // The file has turnout and certificate even if the standing is hidden. There is none before the opening.
    this.file = followFile(poll.id, {
      onData: (file) => this.#takeFile(file),
      pace: (seconds) => (this.certification.isComplete ? FINAL_S : seconds),
    });
    this.isFollowing = false;
    this.#show();
  }

  #arrange() {
    const { verdict, buttons } = this.audit;
    const { button, certificate, late } = this.certification;
    return [
      el("div", { class: "onair" }, el("div", {}, this.badge, this.title), this.timer),
      this.lifecycle.element,
      this.live.stopped,
      this.problem,
      this.live.element,
      el("div", { class: "audit" }, verdict, ...buttons, ...(button ? [button] : []), this.live.waits, certificate, late),
      this.errata.element,
      this.form.element,
      this.journal.element,
      el("div", { class: "actions last" }, this.archive, this.remove),
    ];
  }

  /** Returns `draft`, `scheduled`, `open`, `closed` or `certified`. */
  get state() {
    return this.certification.certified ? "certified" : stateOf(this.poll);
  }

  stop() {
    this.live.stop();
    this.file.stop();
    this.stopped = true;
  }

  /** Shows the poll of an answer, unless it is older than the shown one. */
  take({ answer: poll, version }) {
    if (this.stopped || isOlder(version, this.version)) return;
    Object.assign(this, { poll, version });
    this.#show();
    this.onChange(poll);
  }

  /** Reads the poll again. */
  async refresh() {
    try {
      await this.#load();
    } catch (error) {
      if (error.status === NOT_FOUND && !this.stopped) this.onGone();
    }
  }

  async #load() {
    const found = await request("GET", this.path);
    this.take(found);
    return found;
  }

  /** Resolves to the result of `work` (or true); shows a failure, and resolves to null. */
  async attempt(work) {
    try {
      setText(this.problem, "");
      return (await work()) ?? true;
    } catch (error) {
      const conflict = error instanceof ApiError && error.code === "versionConflict";
      setText(this.problem, conflict ? this.#conflictText(error) : error.message);
      return null;
    }
  }

  #conflictText({ details: { changedBy, changedAt } }) {
    this.refresh();
    const when = changedAt ? formatWhen(Date.parse(changedAt)) : "";
    return t(changedBy ? "control.lookAgainBy" : "control.lookAgain", { who: changedBy, when });
  }

  #show() {
    setText(find("bdi", this.title), this.poll.title);
    this.form.show(this.poll, this.version);
    this.tick();
  }

  /** Updates the state: once a second, and after each change. */
  tick() {
    const { state, poll } = this;
    const opened = Boolean(poll.opensAt) && now() >= Date.parse(poll.opensAt);
    const certified = state === "certified";
    if (opened && !this.isFollowing) {
      this.isFollowing = true;
      this.file.start();
    }
    this.badge.className = `state ${state}`;
    setText(this.badge, poll.archivedAt ? t("control.archivedState", { state: t(`state.${state}`) }) : this.#stateText(state));
    this.archive.hidden = !(state === "closed" || certified) || Boolean(poll.archivedAt);
    this.remove.hidden = opened || certified;
    this.form.setState({ opened, certified });
    for (const part of [this.lifecycle, this.certification, this.errata, this.journal]) part.tick();
    this.#showCountdown(state);
  }

  #stateText(state) {
    if (state !== "draft") return t(`state.${state}`);
    const { opensAt } = this.poll;
    return opensAt ? t("control.draftUntil", { when: formatWhen(Date.parse(opensAt)) }) : t("control.draft");
  }

  #showCountdown(state) {
    const [label, number] = this.timer.children;
    const isAhead = state === "scheduled" || state === "draft";
    const until = Date.parse(isAhead ? this.poll.opensAt : this.poll.closesAt);
    const verb = isAhead ? "opens" : "closes";
    const left = until - now();
    const isNear = left > 0 && left < DAY_MS;
    this.timer.classList.toggle("soon", isNear && left <= SOON_MS);
    setText(number, isNear ? countdown(until) : "");
    if (Number.isNaN(until)) setText(label, t(isAhead ? "control.unscheduled" : "control.untilClosed"));
    else if (isNear) setText(label, t(`bell.${verb}`));
    else setText(label, t(left > 0 ? `bell.${verb}At` : "bell.closed", { when: formatMoment(until) }));
  }

  #takeFile(file) {
    this.live.setTurnout(file.turnout);
    this.certification.take(file);
  }

  async #remove() {
    if (await remove(this)) this.onGone();
  }
}
