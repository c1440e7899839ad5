// Making and changing a poll. The form remembers which version of the poll it shows, and sends what was touched in it.

import { announce, el, find, say } from "/shared/dom.js";
import { Conflict, fieldLabel, valueText } from "/control/conflict.js";
import { differing, draftOf, patchOf, valuesOf } from "/control/changes.js";
import { formatExact } from "/control/words.js";
import { MomentField } from "/control/moment-field.js";
import { People } from "/control/people.js";
import { t } from "/shared/text.js";

const RESULTS = ["live", "afterClose", "hidden"];
const TITLE_MAX = 200;
const BALLOTS_MAX = 100;
const BLANK = {
  ...{ title: "", opensAt: null, closesAt: null, votesPerVoter: null, results: "live" },
  contestants: [],
};

const isPerson = (key) => key.includes(".");

function labelled(label, control, hint = "", wide = false) {
  return el("label", { class: wide ? "wide" : "" }, el("span", {}, label), hint ? el("small", {}, hint) : null, control);
}

/** A control of one value. */
function plain(input, { read = (text) => text, write = (value) => value ?? "" } = {}) {
  return {
    element: input,
    get value() {
      return read(input.value);
    },
    set value(value) {
      input.value = write(value);
    },
    lock: (locked) => (input.tagName === "SELECT" ? (input.disabled = locked) : (input.readOnly = locked)),
  };
}

export class PollForm {
  #base = null;
  #version = null;
  #newest = null;
  #conflict = null;
  #state = { opened: false, certified: false };
  #saving = false;
  #withdrawn = new Map();

  /**
   * `save(body, version)` sends a change and gives `{ answer, version }`; `load()` gives the same of the poll as it is.
   * `withdraw(number, name)`: the button beside a contestant is pressed.
   */
  constructor({ save, load, withdraw }) {
    Object.assign(this, { save, load });
    const options = RESULTS.map((value) => el("option", { value }, t(`control.results.${value}`)));
    this.opensAt = new MomentField(t("control.opensAt"), t("control.opensHint"));
    this.closesAt = new MomentField(t("control.closesAt"), t("control.closesHint"));
    this.people = new People({ onWithdraw: withdraw, onChange: () => this.#follow() });
    const number = { read: (text) => Number(text) || null };
    this.controls = {
      title: plain(el("input", { required: true, maxlength: TITLE_MAX, name: "title" })),
      opensAt: this.opensAt,
      closesAt: this.closesAt,
      votesPerVoter: plain(el("input", { type: "number", min: 1, max: BALLOTS_MAX }), number),
      results: plain(el("select", {}, ...options)),
    };
    this.#build();
  }

  #build() {
    const { title, votesPerVoter, results } = this.controls;
    this.heading = el("h3", {});
    this.final = el("p", { class: "final", hidden: true }, t("control.final"));
    this.gaps = el("p", { class: "gaps", hidden: true });
    this.held = el("p", { class: "held", role: "status", hidden: true }, t("control.held"));
    this.problem = el("p", { class: "problem", role: "alert" });
    this.button = el("button", { class: "strong" }, t("control.save"));
    this.fields = el(
      "div",
      {},
      el(
        "div",
        { class: "fields" },
        labelled(t("control.question"), title.element, "", true),
        this.opensAt.element,
        this.closesAt.element,
        labelled(t("control.votesPerVoter"), votesPerVoter.element, t("control.votesHint")),
        labelled(t("control.results"), results.element),
      ),
      this.gaps,
      this.people.element,
      this.held,
      this.problem,
      el("div", { class: "actions" }, this.button),
    );
    this.choice = el("div", {});
    this.element = el("form", { id: "poll-form" }, this.heading, this.final, this.fields, this.choice);
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    // Later, when the keyboard is where it goes: it may go to the next field of a row.
    this.element.addEventListener("focusout", () => setTimeout(() => this.#follow()));
  }

  /** A form for a new poll. */
  fresh() {
    say(this.heading, t("control.newPoll"));
    this.#fill(valuesOf(BLANK));
    this.people.entries = [["new.0", { name: "" }], ["new.1", { name: "" }]];
    return this;
  }

  /** Shows a poll of a version. What was touched stays, and with it the version that it was touched in, if that differs. */
  show(poll, version) {
    say(this.heading, t("control.edit"));
    this.#withdrawn = new Map(poll.contestants.map(({ number, withdrawnAt }) => [number, withdrawnAt]));
    const exact = (text) => formatExact(Date.parse(text));
    const gaps = (poll.gaps ?? []).map(({ from, to }) => `${exact(from)} – ${exact(to)}`);
    this.gaps.hidden = !gaps.length;
    say(this.gaps, t("control.gaps", { gaps: gaps.join(", ") }));
    this.#newest = { poll, version };
    if (this.#base) this.#follow();
    else this.#adopt(poll, version);
    this.#showState();
  }

  /** `opened`: voters have seen the poll open. `certified`: nothing can be changed any more. */
  setState(state) {
    if (state.opened === this.#state.opened && state.certified === this.#state.certified) return;
    this.#state = state;
    if (state.certified && this.#base) this.#giveUp();
    this.#showState();
  }

  get #values() {
    const { controls, people } = this;
    return new Map([...Object.entries(controls).map(([key, control]) => [key, control.value]), ...people.entries]);
  }

  #fill(values) {
    for (const [key, control] of Object.entries(this.controls)) control.value = values.get(key);
    this.people.entries = [...values].filter(([key]) => isPerson(key));
  }

  #adopt(poll, version) {
    this.#base = valuesOf(poll);
    this.#version = version;
    this.#fill(this.#base);
    this.held.hidden = true;
  }

  /** Takes up the newest version, field by field, unless one that changed there is touched here or has the keyboard. */
  #follow() {
    if (!this.#newest || this.#conflict || this.#saving) return;
    const { poll, version } = this.#newest;
    const next = valuesOf(poll);
    const changed = differing(this.#base, next);
    const touched = differing(this.#base, this.#values);
    const within = (element) => element.contains(document.activeElement);
    const peopleChanged = changed.some(isPerson);
    const clash = changed.some((key) => touched.includes(key)) || (peopleChanged && touched.some(isPerson));
    this.held.hidden = !clash;
    const busy = changed.some((key) => within(isPerson(key) ? this.people.element : this.controls[key].element));
    if (clash || busy) return;
    for (const key of changed) if (!isPerson(key)) this.controls[key].value = next.get(key);
    if (peopleChanged) this.people.entries = [...next].filter(([key]) => isPerson(key));
    this.#base = next;
    this.#version = version;
  }

  /** Certified meanwhile: the form shows what is final, and in words what was typed and cannot be saved any more. */
  #giveUp() {
    const mine = this.#values;
    const lost = differing(this.#base, mine).map((key) => `${fieldLabel(key)}: ${valueText(key, mine.get(key))}`);
    this.#closeChoice();
    this.#adopt(this.#newest.poll, this.#newest.version);
    say(this.problem, lost.length ? t("control.tooLate", { values: lost.join("; ") }) : "");
  }

  #showState() {
    const { opened, certified } = this.#state;
    const locked = certified || this.#saving;
    for (const control of Object.values(this.controls)) control.lock(locked);
    if (opened) this.opensAt.lock(true);
    this.people.show({ opened, locked, withdrawn: this.#withdrawn });
    this.final.hidden = !certified;
    this.button.hidden = certified;
    this.element.classList.toggle("locked", certified);
  }

  async #submit() {
    if (this.#saving || this.#conflict || this.#state.certified) return;
    const mine = this.#values;
    const body = this.#base ? patchOf(this.#base, mine) : draftOf(mine);
    for (const input of this.element.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    say(this.problem, "");
    if (!Object.keys(body).length) return announce(t("control.nothingChanged"));
    this.#setSaving(true);
    try {
      const { answer, version } = await this.save(body, this.#version);
      this.#adopt(answer, version);
      announce(t("control.saved"));
      this.button.focus();
    } catch (error) {
      await this.#refused(error, mine).catch((error) => say(this.problem, error.message));
    } finally {
      this.#setSaving(false);
    }
  }

  #setSaving(saving) {
    this.#saving = saving;
    this.button.disabled = saving;
    this.#showState();
    if (!saving) this.#follow();
  }

  /** Says what is wrong; where somebody else has saved meanwhile, shows both versions and lets the person choose. */
  async #refused(error, mine) {
    if (error.code !== "versionConflict") return say(this.problem, this.#blame(error.message));
    const { answer: poll, version } = await this.load();
    const theirs = valuesOf(poll);
    this.#newest = { poll, version };
    this.#conflict = new Conflict(this.#base, theirs, mine, error.details, {
      onChosen: (values) => {
        this.#closeChoice();
        this.#base = theirs;
        this.#version = version;
        this.#fill(values);
        this.#showState();
        this.#submit();
      },
      onBack: () => {
        this.#closeChoice();
        this.#follow();
        this.button.focus();
      },
    });
    this.fields.hidden = true;
    this.choice.replaceChildren(this.#conflict.element);
    this.#conflict.focus();
  }

  #closeChoice() {
    this.#conflict = null;
    this.choice.replaceChildren();
    this.fields.hidden = false;
  }

  /** Leads to the contestant whom the service's message is about, and gives the message in words. */
  #blame(message) {
    const [, index, name, what] = /^contestants\[(\d+)\]\.?(\w*): (.*)$/s.exec(message) ?? [];
    if (!index || !this.people.blame(Number(index), name)) return message;
    return t("control.inRow", { row: Number(index) + 1, what });
  }
}
