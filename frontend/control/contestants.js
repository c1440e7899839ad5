// The form's contestants. After the opening they can be withdrawn, not removed: earlier votes for them stay.

import { el, find, setText } from "/shared/dom.js";
import { formatWhen } from "/control/texts.js";
import { t } from "/shared/text.js";

const NUMBER_MAX = 32_767;
const NAME_MAX = 200;
const URL_MAX = 2048;

function field(label, name, attributes) {
  return el("label", {}, el("span", {}, label), el("input", { name, ...attributes }));
}

/** A contestant's row. `key`: its key in the poll's values. */
class ContestantRow {
  constructor(key, { number, name, imageUrl }, { onRemove, onWithdraw }) {
    this.key = key;
    this.number = number;
    const button = (name, onclick) => el("button", { type: "button", class: name, onclick }, t(`control.${name}`));
    this.remove = button("remove", () => onRemove(this));
    this.withdraw = button("withdraw", () => onWithdraw(this.number, this.name));
    this.mark = el("span", { class: "withdrawn", hidden: true });
    this.element = el(
      "div",
      { class: "contestant" },
      field(t("control.number"), "number", { type: "number", min: 1, max: NUMBER_MAX, value: number ?? "" }),
      field(t("control.name"), "name", { value: name, required: true, maxlength: NAME_MAX }),
      field(t("control.picture"), "imageUrl", { type: "url", value: imageUrl ?? "", maxlength: URL_MAX }),
      el("div", { class: "end" }, this.mark, this.withdraw, this.remove),
    );
    for (const [button, text] of [[this.remove, "control.removeNamed"], [this.withdraw, "control.withdrawNamed"]]) {
      button.setAttribute("aria-label", t(text, { name: name || String(number ?? "") }));
    }
  }

  input(name) {
    return find(`[name=${name}]`, this.element);
  }

  get name() {
    return this.input("name").value;
  }

  get value() {
    const text = (name) => this.input(name).value;
    return { number: Number(text("number")) || null, name: this.name, imageUrl: text("imageUrl") || null };
  }

  show(withdrawnAt, { opened, locked }) {
    const known = this.key.startsWith("contestant.");
    this.withdraw.hidden = locked || !known || !opened || Boolean(withdrawnAt);
    this.remove.hidden = locked || (known && opened);
    this.mark.hidden = !withdrawnAt;
    if (withdrawnAt) setText(this.mark, t("control.withdrawnAt", { when: formatWhen(Date.parse(withdrawnAt)) }));
    for (const input of this.element.querySelectorAll("input")) input.readOnly = locked;
    // Votes may name the number already.
    if (known && opened) this.input("number").readOnly = true;
  }
}

export class ContestantFields {
  #rows = [];
  #added = 0;
  #state = { opened: false, locked: false, withdrawn: new Map() };

  /** `onWithdraw(number, name)`: the button was pressed. `onChange()`: a row was added or removed. */
  constructor({ onWithdraw, onChange }) {
    this.onWithdraw = onWithdraw;
    this.onChange = onChange;
    this.list = el("div", {});
    this.add = el("button", { type: "button", onclick: () => {
      const row = this.#append(`new.${this.#added}`, { name: "" });
      this.show(this.#state);
      row.input("name").focus();
      this.onChange();
    } }, t("control.addContestant"));
    this.element = el("fieldset", {}, el("legend", {}, t("control.contestants")), this.list, this.add);
  }

  /** Returns `[key, contestant]` of each row, in order. */
  get entries() {
    return this.#rows.map((row) => [row.key, row.value]);
  }

  set entries(entries) {
    this.#rows = [];
    this.list.replaceChildren();
    for (const [key, contestant] of entries) this.#append(key, contestant);
    this.show(this.#state);
  }

  /** `withdrawn`: the time of each withdrawal, by number. `opened`: the poll has opened. `locked`: the form is read-only. */
  show(state) {
    this.#state = state;
    this.add.hidden = state.locked;
    for (const row of this.#rows) row.show(state.withdrawn.get(row.number), state);
  }

  /** Marks a field of a row as invalid, and focuses it; returns false if there is none. */
  focusField(index, name) {
    const input = this.#rows[index]?.input(name || "name");
    input?.setAttribute("aria-invalid", "true");
    input?.focus();
    return Boolean(input);
  }

  #append(key, contestant) {
    const row = new ContestantRow(key, contestant, { onRemove: (row) => this.#remove(row), onWithdraw: this.onWithdraw });
    this.#rows.push(row);
    // A key is never reused, even after the removal of its row.
    const [kind, number] = key.split(".");
    if (kind === "new") this.#added = Math.max(this.#added, Number(number) + 1);
    this.list.append(row.element);
    return row;
  }

  #remove(row) {
    const index = this.#rows.indexOf(row);
    this.#rows.splice(index, 1);
    row.element.remove();
    (this.#rows[index] ?? this.#rows[index - 1])?.input("name").focus();
    if (!this.#rows.length) this.add.focus();
    this.onChange();
  }
}
