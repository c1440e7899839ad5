// The contestants in the form. One that voters have seen open is withdrawn, not removed: votes cast for it before stay.

import { el, find, say } from "/shared/dom.js";
import { formatWhen } from "/control/words.js";
import { t } from "/shared/text.js";

const NUMBER_MAX = 32_767;
const NAME_MAX = 200;
const URL_MAX = 2048;

function field(label, name, attributes) {
  return el("label", {}, el("span", {}, label), el("input", { name, ...attributes }));
}

/** A contestant's row. `key`: what it is called among the poll's values. */
class Row {
  constructor(key, { number, name, imageUrl }, { onRemove, onWithdraw }) {
    this.key = key;
    this.number = number;
    const button = (name, onclick) => el("button", { type: "button", class: name, onclick }, t(`control.${name}`));
    this.remove = button("remove", () => onRemove(this));
    this.withdraw = button("withdraw", () => onWithdraw(this.number, this.name));
    this.mark = el("span", { class: "withdrawn", hidden: true });
    this.element = el(
      "div",
      { class: "person" },
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
    if (withdrawnAt) say(this.mark, t("control.withdrawnAt", { when: formatWhen(Date.parse(withdrawnAt)) }));
    for (const input of this.element.querySelectorAll("input")) input.readOnly = locked;
    // A number that voters have used stays its contestant's.
    if (known && opened) this.input("number").readOnly = true;
  }
}

export class People {
  #rows = [];
  #added = 0;
  #state = { opened: false, locked: false, withdrawn: new Map() };

  /** `onWithdraw(number, name)`: the button is pressed. `onChange()`: a row came or went. */
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

  /** `[key, person]` of each row, in their order. */
  get entries() {
    return this.#rows.map((row) => [row.key, row.value]);
  }

  set entries(entries) {
    this.#rows = [];
    this.list.replaceChildren();
    for (const [key, person] of entries) this.#append(key, person);
    this.show(this.#state);
  }

  /** `withdrawn`: since when, by number. `opened`: voters have seen it open. `locked`: nothing can be changed any more. */
  show(state) {
    this.#state = state;
    this.add.hidden = state.locked;
    for (const row of this.#rows) row.show(state.withdrawn.get(row.number), state);
  }

  /** Leads to a field of the row at an index; false where there is none. */
  blame(index, name) {
    const input = this.#rows[index]?.input(name || "name");
    input?.setAttribute("aria-invalid", "true");
    input?.focus();
    return Boolean(input);
  }

  #append(key, person) {
    const row = new Row(key, person, { onRemove: (row) => this.#remove(row), onWithdraw: this.onWithdraw });
    this.#rows.push(row);
    // A key is never given twice, not even after its row is gone.
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
