// Publishing, opening and closing a poll. They act on the poll's state, so they need no version: a colleague's change
// does not block them.

import { announce, el, setText } from "/shared/dom.js";
import { request } from "/control/api.js";
import { confirmed } from "/control/confirm.js";
import { now } from "/shared/clock.js";
import { t } from "/shared/text.js";

/** The delay of an opening or a close: it is public at once, so that everyone counts down, and it can be undone. */
const DELAY_MS = 10_000;

const moment = (text) => (text ? Date.parse(text) : null);

export class Lifecycle {
  #undo = null;

  /** `desk`: the `Desk` of the poll. */
  constructor(desk) {
    this.desk = desk;
    const button = (id, onclick) => el("button", { type: "button", class: "go", id, onclick }, t(`control.${id}`));
    this.open = button("open", () => (this.desk.state === "closed" ? this.#reopen() : this.#openSoon()));
    this.close = button("close", () => this.#closeSoon());
    this.publish = button("publish", () => this.#publish());
    this.publish.className = "publish";
    this.undoButton = el("button", { type: "button", class: "undo", id: "undo", hidden: true, onclick: () => this.#revert() });
    this.element = el("div", { class: "actions lifecycle" }, this.publish, this.open, this.close, this.undoButton);
  }

  /** Updates the buttons: once a second, and after each change of the poll or its state. */
  tick() {
    const { poll, state } = this.desk;
    this.open.hidden = state === "open" || state === "certified";
    this.close.hidden = state !== "open";
    this.publish.hidden = state !== "draft";
    setText(this.open, t(state === "closed" ? "control.reopen" : "control.open"));
    const undo = this.#undo;
    // After a colleague's change of the same fields, Undo would revert theirs.
    const isUndoable = undo && now() < undo.until && Object.entries(undo.expected).every(([key, ms]) => moment(poll[key]) === ms);
    // Disabled only after the change: a pressed button would lose the keyboard focus.
    this.open.disabled = this.close.disabled = Boolean(isUndoable);
    if (undo && !isUndoable) this.#endUndo();
    if (isUndoable) setText(this.undoButton, t(`control.undo.${undo.kind}`, { n: Math.ceil((undo.until - now()) / 1000) }));
  }

  async #openSoon() {
    const { opensAt, closesAt, draft } = this.desk.poll;
    const at = Math.round(now() + DELAY_MS);
    const closesBefore = closesAt && Date.parse(closesAt) <= at;
    // A draft is published as well, or nobody would count down.
    const body = { opensAt: new Date(at), ...(closesBefore ? { closesAt: null } : {}), ...(draft ? { draft: false } : {}) };
    const earlier = { opensAt, ...(closesBefore ? { closesAt } : {}) };
    await this.#changeUndoably("open", at, body, { opensAt: at }, () => this.#patch(earlier));
  }

  async #closeSoon() {
    const { closesAt } = this.desk.poll;
    const at = Math.round(now() + DELAY_MS);
    // The poll closes sooner anyway: the change would postpone the close.
    if (closesAt && Date.parse(closesAt) <= at) return announce(t("control.closesAnyway"));
    await this.#changeUndoably("close", at, { closesAt: new Date(at) }, { closesAt: at }, () => this.#patch({ closesAt }));
  }

  /** Reopens at once: with a delay, votes cast meanwhile would be refused. */
  async #reopen() {
    if (!(await confirmed(t("control.reopen"), t("control.reopenText"), t("control.reopen")))) return;
    const closeAgain = () => request("POST", `${this.desk.path}/close`);
    await this.#changeUndoably("reopen", now() + DELAY_MS, { closesAt: null }, { closesAt: null }, closeAgain);
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
    return request("PATCH", this.desk.path, body);
  }

  async #change(work) {
    const changed = await this.desk.attempt(work);
    if (changed) this.desk.take(changed);
    return changed;
  }

  /** Sends `body`. Until `until`, `revert` can undo the change, while the poll has the `expected` moments. */
  async #changeUndoably(kind, until, body, expected, revert) {
    const changed = await this.desk.attempt(() => this.#patch(body));
    if (!changed) return;
    this.#undo = { kind, until, expected, revert };
    this.undoButton.hidden = false;
    this.desk.take(changed);
    this.undoButton.focus();
    announce(t(`control.ringing.${kind}`, { n: DELAY_MS / 1000 }));
  }

  async #revert() {
    const undo = this.#undo;
    if (!undo) return;
    const changed = await this.desk.attempt(undo.revert);
    if (!changed) return;
    announce(t("control.undone"));
    this.#endUndo();
    this.desk.take(changed);
  }

  #endUndo() {
    const focused = document.activeElement === this.undoButton;
    this.#undo = null;
    this.undoButton.hidden = true;
    this.open.disabled = this.close.disabled = false;
    if (focused) (this.open.hidden ? this.close : this.open).focus();
  }
}
