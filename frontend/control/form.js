// The form of a poll. It keeps the version that it shows, and sends only edited fields.

import { announce, el, setText } from "/shared/dom.js";
import { Conflict, fieldLabel, valueText } from "/control/conflict.js";
import { ContestantFields } from "/control/contestants.js";
import { differing, draftOf, patchOf, valuesOf } from "/control/changes.js";
import { formatExact } from "/control/texts.js";
import { MomentField } from "/control/moment-field.js";
import { PACES, paceText } from "/control/pace.js";
import { t } from "/shared/text.js";

const RESULTS = ["live", "afterClose", "hidden"];
const TITLE_MAX = 200;
const BALLOTS_MAX = 100;
const TAPS_MAX = 100;
const BLANK = {
  ...{ title: "", opensAt: null, closesAt: null, votesPerVoter: null, tapsMax: 1, results: "live", pace: "auto" },
  contestants: [],
};

const isContestant = (key) => key.includes(".");

function labelled(label, control, hint = "", wide = false) {
  return el("label", { class: wide ? "wide" : "" }, el("span", {}, label), hint ? el("small", {}, hint) : null, control);
}

/** Wraps an input as the control of one value. */
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
   * `save(body, version)` sends a change, `load()` reads the poll; both resolve to `{ answer, version }`.
   * `withdraw(number, name)`: a contestant's button was pressed.
   */
  constructor({ save, load, withdraw }) {
    Object.assign(this, { save, load });
    const options = RESULTS.map((value) => el("option", { value }, t(`control.results.${value}`)));
    const paces = PACES.map((value) => el("option", { value }, paceText(value)));
    this.opensAt = new MomentField(t("control.opensAt"), t("control.opensHint"));
    this.closesAt = new MomentField(t("control.closesAt"), t("control.closesHint"));
    this.contestants = new ContestantFields({ onWithdraw: withdraw, onChange: () => this.#follow() });
    const number = { read: (text) => Number(text) || null };
    this.controls = {
      title: plain(el("input", { required: true, maxlength: TITLE_MAX, name: "title" })),
      opensAt: this.opensAt,
      closesAt: this.closesAt,
      votesPerVoter: plain(el("input", { type: "number", min: 1, max: BALLOTS_MAX }), number),
      // With a limit each vote is one tap.
      tapsMax: plain(el("input", { type: "number", min: 1, max: TAPS_MAX, required: true }), {
        read: (text) => (this.controls.votesPerVoter.value ? 1 : Number(text)),
      }),
      results: plain(el("select", {}, ...options)),
      pace: plain(el("select", { name: "pace" }, ...paces), { read: (text) => Number(text) || text }),
    };
    this.#build();
  }

  #build() {
    const { title, votesPerVoter, tapsMax, results, pace } = this.controls;
    this.heading = el("h3", {});
    this.final = el("p", { class: "final", hidden: true }, t("control.final"));
    this.gaps = el("p", { class: "gaps", hidden: true });
    this.held = el("p", { class: "held", role: "status", hidden: true }, t("control.held"));
    this.problem = el("p", { class: "problem", role: "alert" });
    this.button = el("button", { class: "strong" }, t("control.save"));
    this.taps = labelled(t("control.tapsMax"), tapsMax.element, t("control.tapsHint"), true);
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
        this.taps,
        labelled(t("control.pace"), pace.element, t("control.paceHint"), true),
      ),
      this.gaps,
      this.contestants.element,
      this.held,
      this.problem,
      el("div", { class: "actions" }, this.button),
    );
    this.choice = el("div", {});
    this.whole = el("fieldset", { class: "whole", role: "presentation" }, this.heading, this.final, this.fields, this.choice);
    this.element = el("form", { id: "poll-form" }, this.whole);
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    votesPerVoter.element.addEventListener("input", () => this.#showTaps());
    // Deferred until the focus has moved: it may move within the same row.
    this.element.addEventListener("focusout", () => setTimeout(() => this.#follow()));
  }

  /** Shows an empty form for a new poll. */
  showBlank() {
    setText(this.heading, t("control.newPoll"));
    this.#fill(valuesOf(BLANK));
    this.contestants.entries = [["new.0", { name: "" }], ["new.1", { name: "" }]];
    return this;
  }

  /** Shows a version of the poll. Edited fields keep their input and the version that they are based on. */
  show(poll, version) {
    setText(this.heading, t("control.edit"));
    this.#withdrawn = new Map(poll.contestants.map(({ number, withdrawnAt }) => [number, withdrawnAt]));
    const exact = (text) => formatExact(Date.parse(text));
    const gaps = (poll.gaps ?? []).map(({ from, to }) => `${exact(from)} – ${exact(to)}`);
    this.gaps.hidden = !gaps.length;
    setText(this.gaps, t("control.gaps", { gaps: gaps.join(", ") }));
    this.#newest = { poll, version };
    if (this.#base) this.#follow();
    else this.#adopt(poll, version);
    this.#showState();
  }

  /** Disables the form while another poll's answer is awaited, which replaces it with all input. */
  suspend(suspended) {
    this.whole.disabled = suspended;
  }

  /** `opened`: the poll has opened. `certified`: the definition is final. */
  setState(state) {
    if (state.opened === this.#state.opened && state.certified === this.#state.certified) return;
    this.#state = state;
    if (state.certified && this.#base) this.#discardEdits();
    this.#showState();
  }

  get #values() {
    const { controls, contestants } = this;
    return new Map([...Object.entries(controls).map(([key, control]) => [key, control.value]), ...contestants.entries]);
  }

  #fill(values) {
    for (const [key, control] of Object.entries(this.controls)) control.value = values.get(key);
    this.contestants.entries = [...values].filter(([key]) => isContestant(key));
    this.#showTaps();
  }

  #showTaps() {
    const { votesPerVoter, tapsMax } = this.controls;
    this.taps.hidden = Boolean(votesPerVoter.value);
    tapsMax.element.disabled = this.taps.hidden;
  }

  #adopt(poll, version) {
    this.#base = valuesOf(poll);
    this.#version = version;
    this.#fill(this.#base);
    this.held.hidden = true;
  }

  /** Adopts the newest version, unless a field that it changes is edited here or has the focus. */
  #follow() {
    if (!this.#newest || this.#conflict || this.#saving) return;
    const { poll, version } = this.#newest;
    const next = valuesOf(poll);
    const changed = differing(this.#base, next);
    const edited = differing(this.#base, this.#values);
    const within = (element) => element.contains(document.activeElement);
    const contestantsChanged = changed.some(isContestant);
    const clash = changed.some((key) => edited.includes(key)) || (contestantsChanged && edited.some(isContestant));
    this.held.hidden = !clash;
    const isFocused = changed.some((key) => within(isContestant(key) ? this.contestants.element : this.controls[key].element));
    if (clash || isFocused) return;
    for (const key of changed) if (!isContestant(key)) this.controls[key].value = next.get(key);
    if (contestantsChanged) this.contestants.entries = [...next].filter(([key]) => isContestant(key));
    this.#showTaps();
    this.#base = next;
    this.#version = version;
  }

  /** After a certification: shows the final values, and lists the unsaved input as text. */
  #discardEdits() {
    const mine = this.#values;
    const lost = differing(this.#base, mine).map((key) => `${fieldLabel(key)}: ${valueText(key, mine.get(key))}`);
    this.#closeChoice();
    this.#adopt(this.#newest.poll, this.#newest.version);
    setText(this.problem, lost.length ? t("control.tooLate", { values: lost.join("; ") }) : "");
  }

  #showState() {
    const { opened, certified } = this.#state;
    const locked = certified || this.#saving;
    for (const control of Object.values(this.controls)) control.lock(locked);
    if (opened) this.opensAt.lock(true);
    this.contestants.show({ opened, locked, withdrawn: this.#withdrawn });
    this.final.hidden = !certified;
    this.button.hidden = certified;
    this.element.classList.toggle("locked", certified);
  }

  async #submit() {
    if (this.#saving || this.#conflict || this.#state.certified) return;
    const mine = this.#values;
    const body = this.#base ? patchOf(this.#base, mine) : draftOf(mine);
    for (const input of this.element.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    setText(this.problem, "");
    if (!Object.keys(body).length) return announce(t("control.nothingChanged"));
    this.#setSaving(true);
    try {
      const { answer, version } = await this.save(body, this.#version);
      this.#adopt(answer, version);
      announce(t("control.saved"));
      this.button.focus();
    } catch (error) {
      await this.#showError(error, mine).catch((error) => setText(this.problem, error.message));
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

  /** Shows an error; after a version conflict, shows both versions for a choice. */
  async #showError(error, mine) {
    if (error.code !== "versionConflict") return setText(this.problem, this.#locate(error.message));
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

  /** Focuses the contestant's field that an error message names; returns the message with its row. */
  #locate(message) {
    const [, index, name, what] = /^contestants\[(\d+)\]\.?(\w*): (.*)$/s.exec(message) ?? [];
    if (!index || !this.contestants.focusField(Number(index), name)) return message;
    return t("control.inRow", { row: Number(index) + 1, what });
  }
}
