// The control room: the list of polls, and the desk with one of them.

import { ApiError, call, request } from "/control/api.js";
import { config } from "/shared/files.js";
import { Desk, stateOf } from "/control/desk.js";
import { announce, find, setText } from "/shared/dom.js";
import { everySecond, now } from "/shared/clock.js";
import { formatClock, t } from "/shared/text.js";
import { List } from "/control/list.js";
import { loadControlTexts } from "/control/texts.js";
import { onSession, resumeSignIn, sessionState, signIn, userName } from "/shared/session.js";
import { PollForm } from "/control/form.js";

const LIST_MS = 5_000;
const [FORBIDDEN, NOT_FOUND] = [403, 404];

const place = find("#desk");
const notice = find("#notice");
const list = new List({ onChosen: select, onOlder: loadOlder });
let desk = null;
/** The form on the desk: a poll's, or a new one's. */
let form = null;
let wanted = null;
let timer = null;
let problem = null;
let crew = [];

function showNotice() {
  const text = sessionState() === "ended" ? t("control.ended") : problem;
  notice.hidden = !text;
  setText(notice, text ?? "");
}

function showSession() {
  const state = sessionState();
  setText(find("#who"), state === "valid" ? t("signedInAs", { name: userName() }) : "");
  find("#sign-in").hidden = state === "valid";
  setText(find("#sign-in"), t(state === "ended" ? "signInAgain" : "signIn"));
  // The desk stays visible after the end of a session: a show may be on air.
  find("#room").hidden = state === "none";
  find("#entry").hidden = state !== "none";
  showNotice();
}

/** Resolves to the answer of `work`; shows a failure, and resolves to null. */
async function tryCall(work) {
  try {
    const answer = await work();
    problem = null;
    return answer;
  } catch (error) {
    problem = t(error instanceof ApiError && error.status === FORBIDDEN ? "control.notCrew" : "control.noAnswer");
    return null;
  } finally {
    showNotice();
  }
}

async function refresh() {
  clearTimeout(timer);
  if (sessionState() === "valid" && !document.hidden) {
    const answer = await tryCall(() => call("GET", "/admin/polls"));
    if (answer) takeList(answer);
    // The list may lack the desk's poll, and has no versions.
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
  if (first) select(first);
}

async function loadOlder(before) {
  const answer = await tryCall(() => call("GET", `/admin/polls?before=${before}`));
  if (answer) list.takeOlder(answer);
  showList();
}

const showList = () => list.show(desk?.poll.id);

function clear() {
  desk?.stop();
  desk = form = null;
  place.replaceChildren();
}

/** Awaits a poll for the desk, or none. The form on the desk is disabled meanwhile: its input would be lost. */
function want(id) {
  wanted = id;
  form?.suspend(id !== null);
}

/** Shows a poll on the desk, listed or not. */
async function select(id) {
  setText(find("#number-problem"), "");
  // Already shown: unsaved input stays.
  if (desk?.poll.id === id) return want(null);
  want(id);
  try {
    const found = await request("GET", `/admin/polls/${id}`);
    // Another poll was selected meanwhile.
    if (wanted !== id) return;
    show(found);
  } catch (error) {
    if (wanted !== id) return;
    want(null);
    if (error.status !== NOT_FOUND) return void tryCall(() => Promise.reject(error));
    if (Number(location.hash.slice(1)) === id) forgetAddress();
    setText(find("#number-problem"), t("control.noSuchPoll", { id: String(id) }));
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
  form = desk.form;
  want(null);
  problem = null;
  showNotice();
  place.append(...desk.elements);
  // Countdown and buttons come into view.
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
  want(null);
  clear();
  form = new PollForm({
    save: async (draft) => {
      const made = await request("POST", "/admin/polls", draft);
      list.replace(made.answer);
      show(made);
      place.focus();
      return made;
    },
  });
  place.append(form.showBlank().element);
  showList();
  find("input", place).focus();
}

function tick() {
  setText(find("#clock"), formatClock(now()));
  list.tick();
  desk?.tick();
}

async function start() {
  document.documentElement.dataset.started = "";
  find("#sign-in").addEventListener("click", () => {
    signIn(true).catch(() => {
      problem = t("signInFailed");
      showNotice();
    });
  });
  find("#new-poll").addEventListener("click", newPoll);
  onSession(showSession);
  document.addEventListener("visibilitychange", refresh);
  await loadControlTexts({ onLate: showSession });
  crew = (await config().catch(() => null))?.crew ?? [];
  everySecond(tick);
  await resumeSignIn().catch(() => (problem = t("signInFailed")));
  showSession();
  refresh();
}

start();
