// Who changed what of a poll, and when.

import { call } from "/control/api.js";
import { el } from "/shared/dom.js";
import { formatExact, formatWhen } from "/control/words.js";
import { t } from "/shared/text.js";

/** A text if there is one, else the name itself: the contract may grow. */
function named(prefix, name) {
  const text = t(`${prefix}.${name}`);
  return text === `${prefix}.${name}` ? name : text;
}

const isTime = (value) => typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value);

/** What the journal tells of a value: a list's entries are told one by one. */
function text(value) {
  if (value == null || value.length === 0) return t("control.none");
  if (Array.isArray(value)) return value.map(text).join(", ");
  if (typeof value === "boolean") return t(value ? "control.yes" : "control.no");
  if (isTime(value)) return formatExact(Date.parse(value));
  if (typeof value !== "object") return String(value);
  const { from, to, text: words } = value;
  return from ? `${text(from)} – ${text(to)}` : words ?? JSON.stringify(value);
}

function personText(person) {
  if (!person) return t("control.absent");
  const { number, name, imageUrl, withdrawnAt } = person;
  const withdrawn = withdrawnAt ? t("control.withdrawnAt", { when: formatWhen(Date.parse(withdrawnAt)) }) : null;
  return [number, name, imageUrl, withdrawn].filter(Boolean).join(" · ");
}

/** `[name, from, to]` of each difference; each contestant is one of its own. */
function lines(field, { from, to }) {
  if (field !== "contestants") {
    const known = field === "results" ? (value) => (value ? t(`control.results.${value}`) : t("control.none")) : text;
    return [[named("control.field", field), known(from), known(to)]];
  }
  const [before, after] = [from, to].map((people) => new Map((people ?? []).map((person) => [person.number, person])));
  return [...new Set([...before.keys(), ...after.keys()])].map((number) => {
    const name = t("control.contestantNumber", { number: String(number) });
    return [name, personText(before.get(number)), personText(after.get(number))];
  });
}

function entryElement({ at, who, action, changes }) {
  const rows = Object.entries(changes ?? {}).flatMap(([field, change]) => lines(field, change));
  const when = el("time", { datetime: at }, formatExact(Date.parse(at)));
  // A new poll comes from nothing: what it has is enough.
  const was = (from) => (action === "create" ? [] : [el("del", {}, el("bdi", {}, from)), " → "]);
  const row = ([name, from, to]) => el("li", {}, `${name}: `, ...was(from), el("ins", {}, el("bdi", {}, to)));
  return el(
    "li",
    {},
    el("p", {}, when, " · ", el("bdi", {}, who), " · ", el("strong", {}, named("control.action", action))),
    rows.length ? el("ul", {}, ...rows.map(row)) : null,
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
    const summary = el("summary", {}, t("control.journal"));
    const attributes = { class: "journal", id: "journal", ontoggle: () => this.tick() };
    this.element = el("details", attributes, summary, this.list, this.older);
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
    const last = entries[entries.length - 1];
    this.#last = last?.id;
    // A page may be short where its entries are long: a poll's first entry tells that it was made.
    this.older.hidden = !last || last.action === "create";
  }
}
