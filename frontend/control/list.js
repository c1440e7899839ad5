// The list of polls: current ones first, then all, newest first; and the choice of any poll by its number.

import { el, find, setText } from "/shared/dom.js";
import { stateOf } from "/control/desk.js";
import { t } from "/shared/text.js";

/** The page size of the service. */
const PAGE_SIZE = 100;

export class List {
  #current = [];
  #all = [];
  #older = [];
  #buttons = new Map();

  /** `onChosen(id)`: a poll was selected. `onOlder(id)`: the page before this poll was requested. */
  constructor({ onChosen, onOlder }) {
    this.onChosen = onChosen;
    this.more = find("#more-polls");
    // Without the current polls, which are not in the order of pages.
    this.more.addEventListener("click", () => onOlder([...this.#all, ...this.#older].pop().id));
    find("#by-number").addEventListener("submit", (event) => {
      event.preventDefault();
      onChosen(Number(find("#number").value));
    });
  }

  /** Returns all known polls, current ones first. */
  get polls() {
    const listed = new Set(this.#current.map(({ id }) => id));
    return [...this.#current, ...[...this.#all, ...this.#older].filter(({ id }) => !listed.has(id))];
  }

  /** Takes the service's first page. */
  take({ current = [], polls }) {
    this.#current = current;
    this.#all = polls;
    // Older pages stay below.
    const last = polls[polls.length - 1]?.id ?? 0;
    this.#older = this.#older.filter(({ id }) => id < last);
    if (!this.#older.length) this.more.hidden = polls.length < PAGE_SIZE;
  }

  /** Takes a further page. */
  takeOlder({ polls }) {
    this.#older.push(...polls);
    this.more.hidden = polls.length < PAGE_SIZE;
  }

  /** Takes a new or changed poll. */
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

  /** Shows the list. `chosen`: the number of the desk's poll. */
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
      setText(button.children[1], poll.title);
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

  /** Updates the polls' states, once a second. */
  tick() {
    for (const poll of this.polls) {
      const mark = this.#buttons.get(poll.id)?.lastElementChild;
      if (!mark) continue;
      const state = stateOf(poll);
      setText(mark, t(poll.archivedAt ? "state.archived" : `state.${state}`));
      mark.className = `mark ${state}`;
    }
  }
}
