// Errata: corrections beside a certified result, which itself never changes.

import { announce, el } from "/shared/dom.js";
import { call } from "/control/api.js";
import { confirmed } from "/control/confirm.js";
import { formatMoment, t } from "/shared/text.js";

const ERRATA_MAX = 20;
const TEXT_MAX = 1000;

export class Errata {
  /** `desk`: the `Desk` of the poll. */
  constructor(desk) {
    this.desk = desk;
    this.list = el("ol", {});
    this.text = el("textarea", { maxlength: TEXT_MAX, required: true, rows: 3, name: "erratum" });
    this.button = el("button", { class: "strong", id: "add-erratum" }, t("control.addErratum"));
    const hint = el("small", {}, t("control.erratumHint"));
    const label = el("label", {}, el("span", {}, t("control.erratum")), hint, this.text);
    this.form = el("form", { onsubmit: (event) => {
      event.preventDefault();
      this.#add();
    } }, label, el("div", { class: "actions" }, this.button));
    const heading = el("h3", {}, t("control.errata"));
    this.element = el("section", { class: "errata", id: "errata", hidden: true }, heading, this.list, this.form);
  }

  /** Shows the errata of a certified poll. */
  tick() {
    const { poll, state } = this.desk;
    const errata = poll.errata ?? [];
    this.element.hidden = state !== "certified";
    this.form.hidden = errata.length >= ERRATA_MAX;
    if (this.list.children.length === errata.length) return;
    this.list.replaceChildren(...errata.map(({ at, text }) => {
      return el("li", {}, el("time", { datetime: at }, formatMoment(Date.parse(at))), " ", el("bdi", {}, text));
    }));
  }

  async #add() {
    const text = this.text.value.trim();
    if (!text) return (this.text.value = ""), this.text.reportValidity();
    if (!(await confirmed(t("control.addErratum"), t("control.erratumText"), t("control.addErratum")))) return;
    if (!(await this.desk.attempt(() => call("POST", `${this.desk.path}/errata`, { text })))) return;
    this.text.value = "";
    await this.desk.refresh();
    announce(t("control.erratumAdded"));
  }
}
