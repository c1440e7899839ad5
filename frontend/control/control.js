// The control room: the list of polls, and the one that is on the desk.

import { call, exchange, Refusal } from "/control/api.js";
import { config } from "/shared/config.js";
import { Desk, stateOf } from "/control/desk.js";
import { announce, find, say } from "/shared/dom.js";
import { everySecond, now } from "/shared/clock.js";
import { formatClock, t } from "/shared/text.js";
import { List } from "/control/list.js";
import { loadWords } from "/control/words.js";
import { onSession, resumeSignIn, sessionState, signIn, whoIs } from "/shared/session.js";
import { PollForm } from "/control/form.js";

const LIST_MS = 5_000;
const [FORBIDDEN, NOT_FOUND] = [403, 404];

const place = find("#desk");
const notice = find("#notice");
const list = new List({ onChosen: put, onOlder: loadOlder });
let desk = null;
let wanted = null;
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

/** Asks the service; gives null, and says so, where it does not answer. */
async function asked(work) {
  try {
    const answer = await work();
    trouble = null;
    return answer;
  } catch (error) {
    trouble = t(error instanceof Refusal && error.status === FORBIDDEN ? "control.notCrew" : "control.noAnswer");
    return null;
  } finally {
    showNotice();
  }
}

async function refresh() {
  clearTimeout(timer);
  if (sessionState() === "valid" && !document.hidden) {
    const answer = await asked(() => call("GET", "/admin/polls"));
    if (answer) takeList(answer);
    // Whatever the list holds: the poll on the desk may be on no page of it, and its version is in no list.
    await desk?.refresh();
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, LIST_MS);
}

function takeList(answer) {
  list.take(answer);
  showList();
  if (desk || wanted || find("#poll-form")) return;
  const { polls } = list;
  const first = Number(location.hash.slice(1)) || (polls.find((poll) => stateOf(poll) === "open") ?? polls[0])?.id;
  if (first) put(first);
}

async function loadOlder(before) {
  const answer = await asked(() => call("GET", `/admin/polls?before=${before}`));
  if (answer) list.takeOlder(answer);
  showList();
}

const showList = () => list.show(desk?.poll.id);

function clear() {
  desk?.stop();
  desk = null;
  place.replaceChildren();
}

/** Puts a poll on the desk, whether or not the list has it. */
async function put(id) {
  say(find("#number-problem"), "");
  wanted = id;
  // It is there, with what was typed into it.
  if (desk?.poll.id === id) return void (wanted = null);
  try {
    const found = await exchange("GET", `/admin/polls/${id}`);
    // Another one was asked for meanwhile.
    if (wanted !== id) return;
    show(found);
  } catch (error) {
    if (wanted !== id) return;
    wanted = null;
    if (error.status !== NOT_FOUND) return void asked(() => Promise.reject(error));
    if (Number(location.hash.slice(1)) === id) forgetAddress();
    say(find("#number-problem"), t("control.noSuchPoll", { id: String(id) }));
  }
}

function show(found) {
  clear();
  const { id } = found.answer;
  desk = new Desk(found, {
    onChange: (poll) => {
      list.replace(poll);
      showList();
    },
    onGone: () => gone(id),
    crew,
  });
  wanted = null;
  trouble = null;
  showNotice();
  place.append(...desk.elements);
  // Its bell and its buttons first, wherever the page was.
  if (place.getBoundingClientRect().top < 0) place.scrollIntoView();
  history.replaceState(null, "", `#${id}`);
  showList();
}

const forgetAddress = () => history.replaceState(null, "", `${location.pathname}${location.search}`);

function gone(id) {
  list.forget(id);
  clear();
  forgetAddress();
  showList();
  find("#new-poll").focus();
  announce(t("control.deleted"));
}

function newPoll() {
  wanted = null;
  clear();
  const form = new PollForm({
    save: async (draft) => {
      const made = await exchange("POST", "/admin/polls", draft);
      list.replace(made.answer);
      show(made);
      place.focus();
      return made;
    },
  });
  place.append(form.fresh().element);
  showList();
  find("input", place).focus();
}

function tick() {
  say(find("#clock"), formatClock(now()));
  list.tick();
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
  await loadWords({ onLate: showWho });
  crew = (await config().catch(() => null))?.crew ?? [];
  everySecond(tick);
  await resumeSignIn().catch(() => (trouble = t("signInFailed")));
  showWho();
  refresh();
}

start();
