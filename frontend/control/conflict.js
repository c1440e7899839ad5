// An edit conflict: shows both versions, field by field, and lets the second editor choose.

import { compare, merged } from "/control/changes.js";
import { el, find } from "/shared/dom.js";
import { formatExact, formatWhen } from "/control/texts.js";
import { formatNumber, t } from "/shared/text.js";
import { paceText } from "/control/pace.js";

const FIELDS = {
  title: "control.question",
  opensAt: "control.opensAt",
  closesAt: "control.closesAt",
  votesPerVoter: "control.votesPerVoter",
  tapsMax: "control.tapsMax",
  results: "control.results",
  pace: "control.pace",
};

/** Returns the label of a value. */
export function fieldLabel(key) {
  const [kind, number] = key.split(".");
  if (kind === "contestant") return t("control.contestantNumber", { number });
  return t(kind === "new" ? "control.newContestant" : FIELDS[key]);
}

/** Returns a value as text; `undefined` is shown as absent. */
export function valueText(key, value) {
  if (value === undefined) return t("control.absent");
  if (value === null) return t("control.none");
  if (key === "opensAt" || key === "closesAt") return formatExact(value);
  if (key === "pace") return paceText(value);
  if (key === "results") return t(`control.results.${value}`);
  if (typeof value === "object") return [value.number, value.name, value.imageUrl].filter(Boolean).join(" · ");
  return typeof value === "number" ? formatNumber(value) : String(value);
}

export class Conflict {
  /**
   * `before`: the common base. `changedBy`, `changedAt`: from the error's details. `onChosen(values)`: the values to save.
   * `onBack()`: back to the form.
   */
  constructor(before, theirs, mine, { changedBy, changedAt }, { onChosen, onBack }) {
    this.rows = compare(before, theirs, mine);
    const when = changedAt ? formatWhen(Date.parse(changedAt)) : "";
    this.heading = el("h4", { tabindex: -1, id: "conflict-title" }, t("control.conflict"));
    const save = () => {
      const undecided = this.rows.find(({ key }) => !this.#chosen(key));
      if (undecided) return find("input", this.#group(undecided.key)).reportValidity();
      onChosen(merged(theirs, mine, this.rows.map(({ key }) => key).filter((key) => this.#chosen(key).value === "mine")));
    };
    this.element = el(
      "section",
      { class: "conflict", "aria-labelledby": "conflict-title" },
      this.heading,
      el("p", {}, t(changedBy ? "control.conflictBy" : "control.conflictMore", { who: changedBy, when })),
      ...this.rows.map((row) => this.#row(row)),
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", class: "strong", id: "conflict-save", onclick: save }, t("control.saveChoice")),
        el("button", { type: "button", id: "conflict-back", onclick: onBack }, t("control.backToForm")),
      ),
    );
  }

  focus() {
    this.heading.focus();
    this.element.scrollIntoView({ block: "nearest" });
  }

  #group(key) {
    return find(`[data-key="${key}"]`, this.element);
  }

  #chosen(key) {
    return find("input:checked", this.#group(key));
  }

  /** If both changed a value, neither is preselected: no edit is lost by default. */
  #row({ key, before, theirs, mine, by }) {
    const side = (name, value) => {
      const chosen = { required: true, checked: by === name };
      const input = el("input", { type: "radio", name: `choice.${key}`, value: name, ...chosen });
      const text = el("bdi", {}, valueText(key, value));
      return el("label", {}, input, el("span", {}, el("small", {}, t(`control.side.${name}`)), text));
    };
    const id = `choice-${key}`;
    const was = el("small", {}, t("control.was", { value: valueText(key, before) }));
    return el(
      "div",
      { class: `choice ${by}`, role: "radiogroup", "aria-labelledby": id, "data-key": key },
      el("div", {}, el("strong", { id }, fieldLabel(key)), was),
      side("theirs", theirs),
      side("mine", mine),
    );
  }
}
