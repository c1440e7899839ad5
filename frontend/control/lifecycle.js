// Publishing, opening and closing. None of these is held back by what a colleague has changed: they act on the poll's
// state.

import { announce, el, say } from "/shared/dom.js";
import { exchange } from "/control/api.js";
import { confirmed } from "/control/confirm.js";
import { now } from "/shared/clock.js";
import { t } from "/shared/text.js";

/** How long a bell rings ahead: the change is public at once, so everyone counts down, and it can be taken back. */
export const BELL_MS = 10_000;

const moment = (text) => (text ? Date.parse(text) : null);

export class Bells {
  #undo = null;

  /** `desk`: what holds the poll, its `path`, `take(exchange)` and `attempt(work)`. */
  constructor(desk) {
    this.desk = desk;
    const button = (id, onclick) => el("button", { type: "button", class: "go", id, onclick }, t(`control.${id}`));
    this.open = button("open", () => (this.desk.state === "closed" ? this.#reopen() : this.#ringOpen()));
    this.close = button("close", () => this.#ringClose());
    this.publish = button("publish", () => this.#publish());
    this.publish.className = "publish";
    this.back = el("button", { type: "button", class: "undo", id: "undo", hidden: true, onclick: () => this.#takeBack() });
    this.element = el("div", { class: "actions bells" }, this.publish, this.open, this.close, this.back);
  }

  /** Once a second, and whenever the poll or its state has changed. */
  tick() {
    const { poll, state } = this.desk;
    this.open.hidden = state === "open" || state === "certified";
    this.close.hidden = state !== "open";
    this.publish.hidden = state !== "draft";
    say(this.open, t(state === "closed" ? "control.reopen" : "control.open"));
    const undo = this.#undo;
    // What a colleague has set otherwise meanwhile is theirs to take back.
    const stands = undo && now() < undo.until && Object.entries(undo.set).every(([key, ms]) => moment(poll[key]) === ms);
    // Not disabled while a bell rings: a button that is pressed must not lose the keyboard.
    this.open.disabled = this.close.disabled = Boolean(stands);
    if (undo && !stands) this.#endUndo();
    if (stands) say(this.back, t(`control.undo.${undo.kind}`, { n: Math.ceil((undo.until - now()) / 1000) }));
  }

  async #ringOpen() {
    const { opensAt, closesAt, draft } = this.desk.poll;
    const at = Math.round(now() + BELL_MS);
    const closesBefore = closesAt && Date.parse(closesAt) <= at;
    // A draft is published with it, or nobody would count down.
    const body = { opensAt: new Date(at), ...(closesBefore ? { closesAt: null } : {}), ...(draft ? { draft: false } : {}) };
    const back = { opensAt, ...(closesBefore ? { closesAt } : {}) };
    await this.#ring("open", at, body, { opensAt: at }, () => this.#patch(back));
  }

  async #ringClose() {
    const { closesAt } = this.desk.poll;
    const at = Math.round(now() + BELL_MS);
    // It closes sooner than this bell would ring: a later moment would be the opposite of what was asked.
    if (closesAt && Date.parse(closesAt) <= at) return announce(t("control.closesAnyway"));
    await this.#ring("close", at, { closesAt: new Date(at) }, { closesAt: at }, () => this.#patch({ closesAt }));
  }

  /** At once: a later opening would refuse votes already cast. */
  async #reopen() {
    if (!(await confirmed(t("control.reopen"), t("control.reopenText"), t("control.reopen")))) return;
    const again = () => exchange("POST", `${this.desk.path}/close`);
    await this.#ring("reopen", now() + BELL_MS, { closesAt: null }, { closesAt: null }, again);
  }

  async #publish() {
    const { title } = this.desk.poll;
    if (!(await confirmed(t("control.publish"), t("control.publishText", { title }), t("control.publish")))) return;
    if (await this.#change(() => this.#patch({ draft: false }))) {
      announce(t("control.published"));
      this.open.focus();
    }
  }

  #patch(body) {
    return exchange("PATCH", this.desk.path, body);
  }

  async #change(work) {
    const changed = await this.desk.attempt(work);
    if (changed) this.desk.take(changed);
    return changed;
  }

  /** Changes the poll by `body`; until `until` it can be taken back by `back`, while the poll is as it was `set`. */
  async #ring(kind, until, body, set, back) {
    const changed = await this.desk.attempt(() => this.#patch(body));
    if (!changed) return;
    this.#undo = { kind, until, set, back };
    this.back.hidden = false;
    this.desk.take(changed);
    this.back.focus();
    announce(t(`control.ringing.${kind}`, { n: BELL_MS / 1000 }));
  }

  async #takeBack() {
    const undo = this.#undo;
    if (!undo) return;
    const changed = await this.desk.attempt(undo.back);
    if (!changed) return;
    announce(t("control.undone"));
    this.#endUndo();
    this.desk.take(changed);
  }

  #endUndo() {
    const focused = document.activeElement === this.back;
    this.#undo = null;
    this.back.hidden = true;
    this.open.disabled = this.close.disabled = false;
    if (focused) (this.open.hidden ? this.close : this.open).focus();
  }
}
