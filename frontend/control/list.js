// The polls to choose from: what is on or about to be first, then all, newest first; and any by its number.

import { el, find, say } from "/shared/dom.js";
import { stateOf } from "/control/desk.js";
import { t } from "/shared/text.js";

/** As many as the service gives at once. */
const PAGE = 100;

export class List {
  #current = [];
  #all = [];
  #older = [];
  #buttons = new Map();

  /** `onChosen(id)`: a poll is wanted on the desk. `onOlder(id)`: polls older than this one are wanted. */
  constructor({ onChosen, onOlder }) {
    this.onChosen = onChosen;
    this.more = find("#more-polls");
    // What is current is listed out of turn: it says nothing of how far the pages have come.
    this.more.addEventListener("click", () => onOlder([...this.#all, ...this.#older].pop().id));
    find("#by-number").addEventListener("submit", (event) => {
      event.preventDefault();
      onChosen(Number(find("#number").value));
    });
  }

  /** All polls known, what is current first. */
  get polls() {
    const listed = new Set(this.#current.map(({ id }) => id));
    return [...this.#current, ...[...this.#all, ...this.#older].filter(({ id }) => !listed.has(id))];
  }

  /** The list of the service. */
  take({ current = [], polls }) {
    this.#current = current;
    this.#all = polls;
    // What was fetched of older polls stays below, as it was.
    const last = polls[polls.length - 1]?.id ?? 0;
    this.#older = this.#older.filter(({ id }) => id < last);
    if (!this.#older.length) this.more.hidden = polls.length < PAGE;
  }

  /** Another page of it. */
  takeOlder({ polls }) {
    this.#older.push(...polls);
    this.more.hidden = polls.length < PAGE;
  }

  /** A poll is new, or defined otherwise now. */
  replace(poll) {
    const swap = (polls) => polls.map((other) => (other.id === poll.id ? poll : other));
    const known = this.polls.some(({ id }) => id === poll.id);
    [this.#current, this.#all, this.#older] = [this.#current, this.#all, this.#older].map(swap);
    const newest = Math.max(0, ...this.#all.map(({ id }) => id));
    if (!known && poll.id > newest) this.#all = [poll, ...this.#all];
  }

  forget(id) {
    const without = (polls) => polls.filter((poll) => poll.id !== id);
    [this.#current, this.#all, this.#older] = [this.#current, this.#all, this.#older].map(without);
  }

  /** `chosen`: the number of the poll on the desk. */
  show(chosen) {
    const listed = new Set(this.#current.map(({ id }) => id));
    this.#fill(find("#current"), this.#current, chosen);
    this.#fill(find("#all"), this.polls.filter(({ id }) => !listed.has(id)), chosen);
    find("#current-title").hidden = find("#current").hidden = !this.#current.length;
    this.tick();
  }

  #fill(list, polls, chosen) {
    const rows = polls.map((poll) => {
      const button = this.#button(poll.id);
      say(button.children[1], poll.title);
      button.toggleAttribute("aria-current", poll.id === chosen);
      return button.parentElement ?? el("li", {}, button);
    });
    const same = rows.length === list.children.length && rows.every((row, i) => list.children[i] === row);
    if (!same) list.replaceChildren(...rows);
  }

  #button(id) {
    if (!this.#buttons.has(id)) {
      const number = el("span", { class: "numeral" }, String(id));
      const parts = [number, el("bdi", { class: "title" }), el("span", { class: "mark" })];
      this.#buttons.set(id, el("button", { type: "button", onclick: () => this.onChosen(id) }, ...parts));
    }
    return this.#buttons.get(id);
  }

  /** Where each poll is in its window, as the clock goes. */
  tick() {
    for (const poll of this.polls) {
      const mark = this.#buttons.get(poll.id)?.lastElementChild;
      if (!mark) continue;
      const state = stateOf(poll);
      say(mark, t(poll.archivedAt ? "state.archived" : `state.${state}`));
      mark.className = `mark ${state}`;
    }
  }
}
