// The control room: the list of polls, and the one that is on the desk.

import { call, Refusal } from "/control/api.js";
import { config } from "/shared/config.js";
import { controlEnglish } from "/text/control.en.js";
import { Desk } from "/control/desk.js";
import { announce, el, find, say } from "/shared/dom.js";
import { everySecond, now, statusOf } from "/shared/clock.js";
import { formatClock, loadTexts, t } from "/shared/text.js";
import { onSession, resumeSignIn, sessionState, signIn, whoIs } from "/shared/session.js";
import { pollForm } from "/control/form.js";

const LIST_MS = 5_000;
const TEXTS = { english: controlEnglish, files: new Map([["pt", "/text/control.pt.json"]]) };

const place = find("#desk");
const notice = find("#notice");
const buttons = new Map();
let desk = null;
let polls = [];
let timer = null;
let trouble = null;
let crew = [];

function showNotice() {
  const text = sessionState() === "ended" ? t("control.ended") : trouble;
  notice.hidden = !text;
  say(notice, text ?? "");
}

function showWho() {
  const state = sessionState();
  say(find("#who"), state === "valid" ? t("signedInAs", { name: whoIs() }) : "");
  find("#sign-in").hidden = state === "valid";
  say(find("#sign-in"), t(state === "ended" ? "signInAgain" : "signIn"));
  // What is on the desk stays in sight when a sign-in ends: a show may be on.
  find("#room").hidden = state === "none";
  find("#entry").hidden = state !== "none";
  showNotice();
}

async function refresh() {
  clearTimeout(timer);
  if (sessionState() === "valid" && !document.hidden) {
    try {
      ({ polls } = await call("GET", "/admin/polls"));
      trouble = null;
      showList();
    } catch (error) {
      trouble = error instanceof Refusal && error.status === 403 ? t("control.notCrew") : t("control.noAnswer");
    }
    showNotice();
  }
  timer = setTimeout(refresh, LIST_MS);
}

function showList() {
  const wanted = Number(location.hash.slice(1));
  for (const poll of polls) {
    const button = buttons.get(poll.id) ?? el("button", { type: "button", onclick: () => put(poll.id) });
    if (!button.children.length) {
      button.append(el("span", { class: "numeral" }, String(poll.id)), el("bdi", { class: "title" }), el("span", { class: "mark" }));
      buttons.set(poll.id, button);
    }
    say(button.children[1], poll.title);
    button.toggleAttribute("aria-current", poll.id === desk?.poll.id);
  }
  showMarks();
  const rows = polls.map(({ id }) => buttons.get(id).parentElement ?? el("li", {}, buttons.get(id)));
  const list = find("#polls");
  if (rows.length !== list.children.length || rows.some((row, i) => list.children[i] !== row)) list.replaceChildren(...rows);
  const onDesk = polls.find(({ id }) => id === desk?.poll.id);
  if (onDesk) desk.update(onDesk);
  else if (!desk && !find("#poll-form")) {
    const first = polls.find(({ id }) => id === wanted) ?? polls.find((poll) => statusOf(poll) === "open") ?? polls[0];
    if (first) put(first.id);
  }
}

/** Where each poll is in its window, as the clock goes. */
function showMarks() {
  for (const poll of polls) {
    const mark = buttons.get(poll.id)?.lastElementChild;
    if (!mark) continue;
    say(mark, t(`state.${statusOf(poll)}`));
    mark.className = `mark ${statusOf(poll)}`;
  }
}

function clear() {
  desk?.stop();
  desk = null;
  place.replaceChildren();
}

/** Puts a poll on the desk. */
function put(id) {
  clear();
  desk = new Desk(polls.find((poll) => poll.id === id), {
    onChange: (poll) => {
      polls = polls.map((other) => (other.id === poll.id ? poll : other));
      showList();
    },
    onGone: () => {
      polls = polls.filter((other) => other.id !== id);
      clear();
      history.replaceState(null, "", `${location.pathname}${location.search}`);
      showList();
      find("#new-poll").focus();
      announce(t("control.deleted"));
    },
    announce,
    crew,
  });
  place.append(...desk.elements);
  history.replaceState(null, "", `#${id}`);
  showList();
}

function newPoll() {
  clear();
  place.append(
    pollForm(null, async (draft) => {
      const poll = await call("POST", "/admin/polls", draft);
      polls = [poll, ...polls];
      put(poll.id);
      place.focus();
      announce(t("control.saved"));
    }),
  );
  showList();
  find("input", place).focus();
}

function tick() {
  say(find("#clock"), formatClock(now()));
  showMarks();
  desk?.tick();
}

async function start() {
  document.documentElement.dataset.started = "";
  find("#sign-in").addEventListener("click", () => {
    signIn(true).catch(() => {
      trouble = t("signInFailed");
      showNotice();
    });
  });
  find("#new-poll").addEventListener("click", newPoll);
  onSession(showWho);
  document.addEventListener("visibilitychange", refresh);
  await loadTexts({ more: TEXTS, onLate: showWho });
  crew = (await config().catch(() => null))?.crew ?? [];
  everySecond(tick);
  await resumeSignIn().catch(() => (trouble = t("signInFailed")));
  showWho();
  refresh();
}

start();
