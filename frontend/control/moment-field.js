// A field for an instant, typed as local time. If clocks go back and a local time occurs twice, a second field asks for
// the occurrence; if clocks go forward over it, the field is invalid.

import { el } from "/shared/dom.js";
import { t } from "/shared/text.js";
import { instantsOf, likelyOf, sameSecond, toField } from "/control/moments.js";

/** Limits the year to four digits. */
const LAST = "9999-12-31T23:59:59";

export class MomentField {
  #before = null;
  #instants = [];

  constructor(label, hint) {
    this.input = el("input", { type: "datetime-local", step: 1, max: LAST, oninput: () => this.#typed() });
    this.which = el("select", { required: true });
    this.occurrence = el("label", { hidden: true }, el("span", {}, t("control.twice")), this.which);
    const field = el("label", {}, el("span", {}, label), hint ? el("small", {}, hint) : null, this.input);
    this.element = el("div", { class: "moment" }, field, this.occurrence);
  }

  /** Returns milliseconds, null if empty, or NaN if invalid or ambiguous. An untouched value keeps its milliseconds. */
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

  /** Offers the occurrences of the local time; selects `chosen` if it is known. */
  #offer(chosen) {
    this.#instants = this.input.value ? instantsOf(this.input.value) : [];
    this.input.setCustomValidity(this.input.value && !this.#instants.length ? t("control.leftOut") : "");
    const isAmbiguous = this.#instants.length > 1;
    this.occurrence.hidden = !isAmbiguous;
    this.which.required = isAmbiguous;
    if (!isAmbiguous) return this.which.replaceChildren();
    const parts = { hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
    const name = new Intl.DateTimeFormat(document.documentElement.lang, parts);
    const index = this.#instants.findIndex((ms) => sameSecond(ms, chosen ?? null));
    this.which.replaceChildren(
      el("option", { value: "" }, t("control.whichOne")),
      ...this.#instants.map((ms, i) => el("option", { value: i, selected: i === index }, name.format(ms))),
    );
  }
}
