// Making and changing a poll.

import { el, find, say } from "/shared/dom.js";
import { t } from "/shared/text.js";

const RESULTS = ["live", "afterClose", "hidden"];

/** A moment as the field wants it: local time without a zone. */
function toField(text) {
  if (!text) return "";
  const time = new Date(text);
  return new Date(time - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

const fromField = (text) => (text ? new Date(text).toISOString() : null);

function field(label, control, hint = "", wide = false) {
  const hinted = hint ? el("small", {}, hint) : null;
  return el("label", { class: wide ? "wide" : "" }, el("span", {}, label), hinted, control);
}

function person({ number = "", name = "", imageUrl = "" } = {}) {
  const row = el(
    "div",
    { class: "person" },
    field(t("control.number"), el("input", { type: "number", min: 1, max: 32767, value: number, name: "number" })),
    field(t("control.name"), el("input", { value: name, name: "name", required: true, maxlength: 200 })),
    field(t("control.picture"), el("input", { type: "url", value: imageUrl ?? "", name: "imageUrl", maxlength: 2048 })),
  );
  const remove = el("button", { type: "button", onclick: () => {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    find("input", next ?? document)?.focus();
  } }, t("control.remove"));
  remove.setAttribute("aria-label", t("control.removeNamed", { name: name || number || "" }));
  row.append(remove);
  return row;
}

/** Only what differs: whatever somebody else changes meanwhile stays theirs. */
function changes(poll, wished) {
  const contestants = poll.contestants.map(({ number, name, imageUrl }) => ({ number, name, imageUrl }));
  const before = { ...poll, contestants };
  const differs = ([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name]);
  return Object.fromEntries(Object.entries(wished).filter(differs));
}

/** Leads to the contestant whom the service's message is about, and gives the message in words. */
function blame(people, message) {
  const [, index, name, what] = /^contestants\[(\d+)\]\.?(\w*): (.*)$/s.exec(message) ?? [];
  const input = index && find(`[name=${name || "name"}]`, people.children[index]);
  if (!input) return message;
  input.setAttribute("aria-invalid", "true");
  input.focus();
  return t("control.inRow", { row: Number(index) + 1, what });
}

/** A form for a poll, or for a new one where it is null. `save(body)` sends it. */
export function pollForm(poll, save) {
  const title = el("input", { value: poll?.title ?? "", required: true, maxlength: 200 });
  const opensAt = el("input", { type: "datetime-local", step: 1, value: toField(poll?.opensAt) });
  const closesAt = el("input", { type: "datetime-local", step: 1, value: toField(poll?.closesAt) });
  const limit = el("input", { type: "number", min: 1, max: 100, value: poll?.votesPerVoter ?? "" });
  const results = el("select", {}, ...RESULTS.map((value) => {
    return el("option", { value, selected: value === (poll?.results ?? "live") }, t(`control.results.${value}`));
  }));
  const people = el("div", {}, ...(poll?.contestants ?? [{}, {}]).map(person));
  const add = el("button", { type: "button", onclick: () => {
    people.append(person());
    find("[name=name]", people.lastElementChild).focus();
  } }, t("control.addContestant"));
  const problem = el("p", { class: "problem", role: "alert" });
  const form = el(
    "form",
    { id: "poll-form" },
    el("h3", {}, t(poll ? "control.edit" : "control.newPoll")),
    el(
      "div",
      { class: "fields" },
      field(t("control.question"), title, "", true),
      field(t("control.opensAt"), opensAt, t("control.opensHint")),
      field(t("control.closesAt"), closesAt, t("control.closesHint")),
      field(t("control.votesPerVoter"), limit, t("control.votesHint")),
      field(t("control.results"), results),
    ),
    el("fieldset", {}, el("legend", {}, t("control.contestants")), people, add),
    problem,
    el("div", { class: "actions" }, el("button", { class: "strong" }, t("control.save"))),
  );
  // A moment that nobody touched goes back as it came, to the millisecond.
  const moment = (input, before) => (input.value === toField(before) ? (before ?? null) : fromField(input.value));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const contestants = [...people.children].map((row) => ({
      number: Number(find("[name=number]", row).value) || null,
      name: find("[name=name]", row).value,
      imageUrl: find("[name=imageUrl]", row).value || null,
    }));
    const button = find(".strong", form);
    button.disabled = true;
    for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
    try {
      const wished = {
        title: title.value,
        opensAt: moment(opensAt, poll?.opensAt),
        closesAt: moment(closesAt, poll?.closesAt),
        votesPerVoter: Number(limit.value) || null,
        results: results.value,
        contestants,
      };
      await save(poll ? changes(poll, wished) : wished);
      say(problem, "");
    } catch (error) {
      say(problem, blame(people, error.message));
    } finally {
      button.disabled = false;
    }
  });
  return form;
}
