// A moment in the form. Where a local time occurs twice that night, a second field asks which; where it does not occur,
// the field says so.

import { el } from "/shared/dom.js";
import { t } from "/shared/text.js";
import { instantsOf, likelyOf, sameSecond, toField } from "/control/moments.js";

/** A year that a longer number would not fit into. */
const LAST = "9999-12-31T23:59:59";

export class MomentField {
  #before = null;
  #instants = [];

  constructor(label, hint) {
    this.input = el("input", { type: "datetime-local", step: 1, max: LAST, oninput: () => this.#typed() });
    this.which = el("select", { required: true });
    this.twice = el("label", { hidden: true }, el("span", {}, t("control.twice")), this.which);
    const field = el("label", {}, el("span", {}, label), hint ? el("small", {}, hint) : null, this.input);
    this.element = el("div", { class: "moment" }, field, this.twice);
  }

  /** Milliseconds, or null. What nobody touched is as it came, to the millisecond. NaN: not a moment yet. */
  get value() {
    if (this.input.validity.badInput) return NaN;
    if (!this.input.value) return null;
    const chosen = this.#instants.length > 1 ? this.#instants[Number(this.which.value || NaN)] : this.#instants[0];
    if (chosen === undefined) return NaN;
    return sameSecond(chosen, this.#before) ? this.#before : chosen;
  }

  set value(ms) {
    this.#before = ms;
    this.input.value = toField(ms);
    this.#offer(ms);
  }

  lock(locked) {
    this.input.readOnly = locked;
    this.which.disabled = locked;
  }

  #typed() {
    this.#offer(likelyOf(instantsOf(this.input.value), this.#before));
  }

  /** Offers the occurrences of the local time, `chosen` being one of them where it is known. */
  #offer(chosen) {
    this.#instants = this.input.value ? instantsOf(this.input.value) : [];
    this.input.setCustomValidity(this.input.value && !this.#instants.length ? t("control.leftOut") : "");
    const two = this.#instants.length > 1;
    this.twice.hidden = !two;
    this.which.required = two;
    if (!two) return this.which.replaceChildren();
    const parts = { hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
    const name = new Intl.DateTimeFormat(document.documentElement.lang, parts);
    const index = this.#instants.findIndex((ms) => sameSecond(ms, chosen ?? null));
    this.which.replaceChildren(
      el("option", { value: "" }, t("control.whichOne")),
      ...this.#instants.map((ms, i) => el("option", { value: i, selected: i === index }, name.format(ms))),
    );
  }
}
