// Who changed what of a poll, and when.

import { call } from "/control/api.js";
import { compare, valuesOf } from "/control/changes.js";
import { el } from "/shared/dom.js";
import { fieldLabel, valueText } from "/control/conflict.js";
import { formatExact } from "/control/words.js";
import { t } from "/shared/text.js";

const PAGE = 100;
const EMPTY = { title: null, opensAt: null, closesAt: null, votesPerVoter: null, results: null };

/** A text if there is one, else the name itself: the contract may grow. */
function named(prefix, name) {
  const text = t(`${prefix}.${name}`);
  return text === `${prefix}.${name}` ? name : text;
}

const isTime = (value) => typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value);

function text(value) {
  if (isTime(value)) return formatExact(Date.parse(value));
  return value && typeof value === "object" ? JSON.stringify(value) : valueText("", value ?? null);
}

/** `[name, from, to]` of each difference; of contestants those that differ. */
function lines(field, { from, to }) {
  if (field === "contestants") {
    const [before, after] = [from, to].map((contestants) => valuesOf({ ...EMPTY, contestants: contestants ?? [] }));
    return compare(before, before, after).map(({ key, before, mine }) => [fieldLabel(key), valueText(key, before), valueText(key, mine)]);
  }
  if (field === "results") return [[fieldLabel(field), ...[from, to].map((value) => valueText(field, value ?? null))]];
  return [[named("control.field", field), text(from), text(to)]];
}

function entryElement({ at, who, action, changes }) {
  const rows = Object.entries(changes ?? {}).flatMap(([field, change]) => lines(field, change));
  return el(
    "li",
    {},
    el("p", {}, el("time", { datetime: at }, formatExact(Date.parse(at))), " · ", el("bdi", { class: "by" }, who), " · ", el("strong", {}, named("control.action", action))),
    rows.length ? el("ul", {}, ...rows.map(([name, from, to]) => el("li", {}, `${name}: `, el("del", {}, el("bdi", {}, from)), " → ", el("ins", {}, el("bdi", {}, to))))) : null,
  );
}

export class Journal {
  #shown = null;
  #last = null;

  /** `desk`: what holds the poll. */
  constructor(desk) {
    this.desk = desk;
    this.list = el("ol", { id: "journal-entries" });
    this.older = el("button", { type: "button", hidden: true, onclick: () => this.#load(this.#last) }, t("control.older"));
    this.element = el("details", { class: "journal", id: "journal", ontoggle: () => this.tick() }, el("summary", {}, t("control.journal")), this.list, this.older);
  }

  /** While it is open, it follows the poll. */
  tick() {
    const { version } = this.desk;
    if (!this.element.open || version === this.#shown) return;
    this.#shown = version;
    this.#load();
  }

  async #load(before) {
    const query = before === undefined ? "" : `?before=${before}`;
    const answer = await call("GET", `${this.desk.path}/journal${query}`).catch(() => null);
    if (before === undefined) this.list.replaceChildren();
    if (!answer) return this.list.append(el("li", {}, t("control.noAnswer")));
    const { entries } = answer;
    this.list.append(...entries.map(entryElement));
    this.#last = entries[entries.length - 1]?.id;
    this.older.hidden = entries.length < PAGE;
  }
}
