// The viewer's page: polls, standings and the voter's own votes, each with its own requests and lifetime.

import { Ballot } from "/viewer/ballot.js";
import { announce, el, find, setText } from "/shared/dom.js";
import { everySecond, now, statusOf } from "/shared/clock.js";
import { config } from "/shared/files.js";
import { followFile, followList, isShown } from "/shared/standing.js";
import { spread } from "/shared/feed.js";
import { loadTexts, t } from "/shared/text.js";
import { isSandboxed, onSession, resumeSignIn, sessionState, signIn, signOut, userName, voter } from "/shared/session.js";
import { forgetBallots, keepBallots, keepsBallots } from "/viewer/memory.js";
import { Outbox } from "/viewer/outbox.js";
import { Standing } from "/viewer/standing.js";

const DAY_MS = 86_400_000;
const CLOSED_MAX = 2;
const SCHEDULED_MAX = 3;
/** The interval until a vote of this page is decided, and the time in which all pages start at an opening. */
const SOON_S = 3;

/** `?poll=7` shows that poll alone, whatever its state. */
const only = Number(new URLSearchParams(location.search).get("poll")) || null;

const main = find("#polls");
const notice = find("#notice");
const sections = new Map();
const problems = { polls: "ok", signIn: "ok", news: null };
let latest = null;
let listVersion = 0;

const api = async () => (await config()).api;
const outbox = new Outbox({ api, onChange: onVotes, onMine: (poll) => sections.get(poll)?.showVotes() });

/** One poll on the page. */
class Section {
  constructor(poll) {
    this.poll = poll;
    this.certificate = null;
    this.ballot = new Ballot(poll, { onVote: (contestant) => this.vote(contestant), onLookUp: () => this.lookUp() });
    this.standing = new Standing(poll, (text) => setText(find("#moves"), text));
    this.element = el("article", { class: "poll", id: `poll-${poll.id}` });
    const parts = [this.ballot.body, this.standing.element];
    // After the close the result comes first. On an open page nothing changes its place.
    if (statusOf(poll) === "closed") parts.reverse();
    this.element.append(this.ballot.head, ...parts);
    observer.observe(this.element);
    this.update(poll);
  }

  /** Shows a definition, unless a newer one is shown. */
  update(poll) {
    if (poll.listVersion < this.poll.listVersion) return;
    this.poll = poll;
    this.ballot.update(poll);
    this.showVotes();
    this.tick();
  }

  tick() {
    // The file may have changed for the last time, and one of the log may have given no answer.
    outbox.find(this.poll.id);
    const status = this.ballot.tick(this.certificate);
    this.standing.setTitle({ closed: "result", certified: "state.certified" }[status] ?? "standing");
    if (status === this.status && this.poll.results === this.results) return;
    this.results = this.poll.results;
    // Every page sees the opening and the close at the same moment.
    const isEvent = this.status;
    this.status = status;
    this.follow(isEvent ? Math.random() * SOON_S : 0);
    if (isEvent) list.hasten(SOON_S * spread());
  }

  /** Follows the file while it may exist and is in view, until the certified one is complete. `seconds`: the first wait. */
  follow(seconds = 0) {
    if (this.status === "scheduled") this.standing.withhold("scheduled");
    else if (!isShown(this.poll, this.status) && !this.certificate) this.standing.withhold(this.poll.results);
    const isNew = this.visible && !this.certificate?.digest && this.status !== "scheduled";
    const wanted = isNew || outbox.isPending(this.poll.id);
    if (wanted === Boolean(this.feed)) return;
    this.feed?.stop();
    const pace = (seconds) => (outbox.isPending(this.poll.id) ? SOON_S : seconds);
    this.feed = wanted ? followFile(this.poll.id, { onData: (file) => this.take(file), onState, pace }).start(seconds) : null;
  }

  take(file) {
    if (file.certified) this.certificate = file.certificate;
    if (file.listVersion > listVersion && !file.certified) list.hasten(0);
    this.update(file);
    if (file.log) outbox.find(this.poll.id, file.log);
    const { results } = this.poll;
    // The edge's copy may predate the hiding of the standing.
    this.standing.show(isShown(this.poll, this.status) ? file : { ...file, ranking: null }, results === "live" ? "hidden" : results);
    if (this.certificate) this.follow();
  }

  showVotes() {
    this.ballot.showVotes(outbox.of(this.poll.id), outbox.used(this.poll.id));
  }

  async lookUp() {
    if (!(await outbox.lookUp(this.poll.id))) announce(t("said.notLookedUp"));
    else if (outbox.of(this.poll.id).some(({ state }) => state === "sent")) announce(t("said.stillSent"));
  }

  remove() {
    this.feed?.stop();
    observer.unobserve(this.element);
    this.element.remove();
  }

  vote(contestant) {
    const { id, votesPerVoter } = this.poll;
    if (votesPerVoter && outbox.used(id).size >= votesPerVoter) {
      announce(t("allUsed"));
      // Once, and only after a tap: an earlier page's vote may have been refused.
      if (!outbox.hasUsedAll(this.poll)) this.checked ??= outbox.readMine(id).then((isRead) => (this.checked = isRead || null));
      return;
    }
    outbox.cast(this.poll, contestant, this.ballot.takeAmount());
    if (sessionState() !== "valid") startSignIn();
  }
}

const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const section = [...sections.values()].find((section) => section.element === entry.target);
    if (!section) continue;
    section.visible = entry.isIntersecting;
    section.follow();
  }
}, { rootMargin: "200px" });

/** Shows votes whose state has changed, and announces those of one contestant and outcome together. */
function onVotes(request, votes) {
  const section = sections.get(request.poll);
  if (!section) return;
  section.showVotes();
  if (votes.some(({ state }) => state === "sent")) section.feed?.hasten(SOON_S * spread());
  const groups = new Map();
  for (const vote of votes) {
    const key = [vote.contestant, vote.state, vote.reason].join();
    groups.set(key, { ...vote, count: vote.count + (groups.get(key)?.count ?? 0) });
  }
  for (const group of groups.values()) announceVotes(section, request, group);
}

function announceVotes(section, request, { contestant, state, reason, count: n }) {
  const name = section.poll.contestants.find(({ number }) => number === contestant)?.name ?? contestant;
  const key = state !== "waiting" ? state : sessionState() === "valid" ? "waiting" : "signIn";
  if (key === "waiting" && !request.tries) return;
  const text = t(`said.${key}`, { n, name, reason: reasonText(reason, n, request) });
  if (key === "refused") section.ballot.showRefusal(text);
  announce(text);
}

function reasonText(reason, n, { poll, limit }) {
  if (!reason) return "";
  const another = reason === "ballotUsed" && outbox.used(poll).size < limit;
  const key = `reason.${another ? "anotherLeft" : reason}`;
  const text = t(key, { n });
  return text === key ? t("reason.other", { reason }) : text;
}

function onState(state) {
  problems.polls = state;
  showNotice();
}

/** Returns the polls to show, the most relevant first. */
function choose(polls) {
  // One that is not in the list has a file.
  if (only) return [polls.find(({ id }) => id === only) ?? { id: only }];
  const by = (status) => polls.filter((poll) => statusOf(poll) === status);
  const time = (text, none) => (text ? Date.parse(text) : none);
  const open = by("open").sort((a, b) => time(a.closesAt, Infinity) - time(b.closesAt, Infinity) || a.id - b.id);
  const scheduled = by("scheduled")
    .filter((poll) => poll.opensAt && time(poll.opensAt) - now() < DAY_MS)
    .sort((a, b) => time(a.opensAt) - time(b.opensAt));
  const closed = by("closed")
    .filter((poll) => now() - time(poll.closesAt) < DAY_MS)
    .sort((a, b) => time(b.closesAt) - time(a.closesAt));
  return [...open, ...scheduled.slice(0, SCHEDULED_MAX), ...closed.slice(0, CLOSED_MAX)];
}

function showPolls(polls, version) {
  latest = [polls, version];
  listVersion = version;
  const first = !sections.size;
  for (const poll of polls) {
    sections.get(poll.id)?.update(poll);
    if (sections.has(poll.id)) continue;
    const section = new Section(poll);
    sections.set(poll.id, section);
    // Existing polls stay in place: a finger may be on its way to one.
    main.append(section.element);
    if (!first && section.status === "open") announceNew(poll);
  }
  find("#empty").hidden = sections.size > 0;
  setText(find("#empty h2"), t("nothingOpen"));
  setText(find("#empty p"), t("nothingOpenMore"));
  // A refusal is shown at its poll.
  if (sections.size) outbox.expire();
}

/** Rebuilds the page in a language that loaded late. */
function rebuild() {
  for (const section of sections.values()) section.remove();
  sections.clear();
  if (latest) showPolls(...latest);
  showSession();
}

function announceNew(poll) {
  problems.news = poll;
  showNotice();
}

function showNotice() {
  const state = problems.polls !== "ok" ? problems.polls : sessionState() === "ended" ? "ended" : null;
  const key = state ?? (problems.signIn === "ok" ? null : isSandboxed ? "signInFramed" : "signInFailed");
  notice.hidden = !key && !problems.news;
  if (key) setText(notice, t(key));
  else if (problems.news) {
    const { id, title } = problems.news;
    notice.replaceChildren(el("a", { href: `#poll-${id}` }, t("newPoll", { title })));
  }
}

function showSession() {
  const state = sessionState();
  setText(find("#who"), state === "valid" ? t("signedInAs", { name: userName() }) : "");
  const button = find("#sign-in");
  button.hidden = state === "valid";
  setText(button, t(state === "ended" ? "signInAgain" : "signIn"));
  setText(find("#sign-out"), t("signOut"));
  setText(find("#keep-text"), t("keepBallots"));
  find("#leave").hidden = state === "none";
  showNotice();
}

async function startSignIn() {
  problems.signIn = "ok";
  try {
    await signIn();
  } catch {
    problems.signIn = "failed";
    showNotice();
  }
}

const list = followList({
  choose,
  known: (id) => sections.get(id)?.poll,
  onPolls: showPolls,
  isOpen: () => [...sections.values()].some(({ feed, status }) => feed && status === "open"),
  onState,
});

async function start() {
  find("#sign-in").addEventListener("click", startSignIn);
  find("#sign-out").addEventListener("click", () => {
    forgetBallots(voter());
    signOut();
  });
  const keep = find("#keep");
  keep.checked = keepsBallots();
  keep.addEventListener("change", () => keepBallots(keep.checked));
  onSession(() => {
    showSession();
    sections.forEach((section) => section.showVotes());
  });
  await loadTexts({ onLate: rebuild });
  list.start();
  everySecond(() => sections.forEach((section) => section.tick()));
  await resumeSignIn().catch(() => (problems.signIn = "failed"));
  showSession();
  outbox.resume();
}

start();
