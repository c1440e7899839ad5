// The journal: the crew's changes of a poll.

import { call } from "/control/api.js";
import { el } from "/shared/dom.js";
import { formatExact, formatWhen } from "/control/texts.js";
import { paceText } from "/control/pace.js";
import { t } from "/shared/text.js";

/** Returns the text of a name, or the name itself: newer services may send unknown names. */
function named(prefix, name) {
  const text = t(`${prefix}.${name}`);
  return text === `${prefix}.${name}` ? name : text;
}

const isTime = (value) => typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value);

/** Returns a value as text; a list's entries one by one. */
function text(value) {
  if (value == null || value.length === 0) return t("control.none");
  if (Array.isArray(value)) return value.map(text).join(", ");
  if (typeof value === "boolean") return t(value ? "control.yes" : "control.no");
  if (isTime(value)) return formatExact(Date.parse(value));
  if (typeof value !== "object") return String(value);
  const { from, to, text: words } = value;
  return from ? `${text(from)} – ${text(to)}` : words ?? JSON.stringify(value);
}

function contestantText(contestant) {
  if (!contestant) return t("control.absent");
  const { number, name, imageUrl, withdrawnAt } = contestant;
  const withdrawn = withdrawnAt ? t("control.withdrawnAt", { when: formatWhen(Date.parse(withdrawnAt)) }) : null;
  return [number, name, imageUrl, withdrawn].filter(Boolean).join(" · ");
}

/** The texts of fields with a few values. */
const KNOWN = {
  results: (value) => (value ? t(`control.results.${value}`) : t("control.none")),
  pace: (value) => (value ? paceText(value) : t("control.none")),
};

/** Returns `[name, from, to]` of each difference; each contestant is a difference of its own. */
function lines(field, { from, to }) {
  if (field !== "contestants") {
    const known = KNOWN[field] ?? text;
    return [[named("control.field", field), known(from), known(to)]];
  }
  const [before, after] = [from, to].map((list) => new Map((list ?? []).map((contestant) => [contestant.number, contestant])));
  return [...new Set([...before.keys(), ...after.keys()])].map((number) => {
    const name = t("control.contestantNumber", { number: String(number) });
    return [name, contestantText(before.get(number)), contestantText(after.get(number))];
  });
}

function entryElement({ at, who, action, changes }) {
  const rows = Object.entries(changes ?? {}).flatMap(([field, change]) => lines(field, change));
  const when = el("time", { datetime: at }, formatExact(Date.parse(at)));
  // A new poll has no earlier values.
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

  /** `desk`: the `Desk` of the poll. */
  constructor(desk) {
    this.desk = desk;
    this.list = el("ol", { id: "journal-entries" });
    this.older = el("button", { type: "button", hidden: true, onclick: () => this.#load(this.#last) }, t("control.older"));
    const summary = el("summary", {}, t("control.journal"));
    const attributes = { class: "journal", id: "journal", ontoggle: () => this.tick() };
    this.element = el("details", attributes, summary, this.list, this.older);
  }

  /** Reloads after a change of the poll, while the section is open. */
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
    // A page's length tells nothing: pages with long entries are short. A poll's first entry is `create`.
    this.older.hidden = !last || last.action === "create";
  }
}
