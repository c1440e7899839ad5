// A viewer's page, request for request as frontend/viewer and frontend/shared have it: the list, the names, the files of
// the polls in view, the votes with their retries, and the search for them in the public log. What the page sends, and
// when, changes there and here together.
//
// Many pages share a virtual user and its connections. They share the parsed content of a file too; each still has a copy
// of its own as far as its requests tell, which name that copy's version.

import { b64decode } from "k6/encoding";
import http from "k6/http";
import { clearTimeout, setTimeout } from "k6/timers";

import { LOOK_FOR_MS, Search } from "./log.js";
import { BASE_URL, uuidV7 } from "./stack.js";

const INTERVAL_S = 3;
const RETRY_S_MAX = 60;
const SOON_S = 3;
const LIST_S = 60;
const TIMEOUT = "10s";
const GATHER_MS = 1_000;
const RETRY_MS_MAX = 30_000;
const VOTES_MAX = 20;

// A poll may have no file yet.
const FILE = http.expectedStatuses(200, 304, 404);
const ACCEPTED = http.expectedStatuses(202);

const spread = () => 1 + Math.random() / 2;
const jitter = (ms) => ms * (0.75 + Math.random() / 2);

// By path, the latest version of each file, shared by the pages of a virtual user.
const parsed = new Map();

async function get(path, name, params = {}) {
  const options = { timeout: TIMEOUT, responseCallback: FILE, responseType: "text", ...params, tags: { name } };
  options.headers = { "Accept-Encoding": "gzip", ...params.headers };
  return http.asyncRequest("GET", BASE_URL + path, null, options);
}

function contentOf(path, response) {
  const tag = response.headers.Etag;
  const last = parsed.get(path);
  if (tag && last && last.tag === tag) return last.body;
  const body = response.json();
  parsed.set(path, { tag, body });
  return body;
}

// A public file, asked for again and again.
class Feed {
  constructor({ path, name, onData, pace = (seconds) => seconds }) {
    Object.assign(this, { path, name, onData, pace, failures: 0, tag: null, copy: null, running: false, due: 0 });
  }

  start(seconds = 0) {
    this.running = true;
    this.schedule(seconds);
    return this;
  }

  stop() {
    this.running = false;
    clearTimeout(this.timer);
  }

  // Requests within some seconds, if the next request is later.
  hasten(seconds) {
    if (this.due - Date.now() > seconds * 1000) this.schedule(seconds);
  }

  schedule(seconds) {
    clearTimeout(this.timer);
    if (!this.running) return;
    this.due = Date.now() + seconds * 1000;
    this.timer = setTimeout(() => this.request(), seconds * 1000);
  }

  async request() {
    if (this.pending || !this.running) return;
    this.pending = true;
    try {
      const headers = this.tag ? { "If-None-Match": this.tag } : {};
      const response = await get(this.path, this.name, { headers });
      if (!this.running) return;
      if (response.status === 200 || response.status === 304) await this.take(response);
      else if (response.status === 404) this.schedule(INTERVAL_S * spread());
      else this.schedule(Math.min(RETRY_S_MAX, 2 ** ++this.failures) * (0.5 + Math.random()));
    } finally {
      this.pending = false;
    }
  }

  // An unchanged file is not looked at again, unless its names were missing.
  async take(response) {
    const isKnown = response.status === 304 || response.headers.Etag === this.tag;
    if (!isKnown) {
      this.copy = contentOf(this.path, response);
      this.tag = (await this.onData(this.copy)) === false ? null : response.headers.Etag;
    }
    this.failures = 0;
    this.schedule(this.pace(this.copy.nextInSeconds || INTERVAL_S) * spread());
  }
}

// One poll on a page.
class Section {
  constructor(page, poll) {
    Object.assign(this, { page, poll, status: null, isCertified: false });
    this.tick();
  }

  update(poll) {
    if (poll.listVersion < this.poll.listVersion) return;
    this.poll = poll;
    this.tick();
  }

  tick() {
    const now = Date.now();
    const moments = [this.poll.opensAt, this.poll.closesAt].map((moment) => (moment ? Date.parse(moment) : Infinity));
    const status = now >= moments[1] ? "closed" : now >= moments[0] ? "open" : "scheduled";
    clearTimeout(this.timer);
    const next = Math.min(...moments.filter((moment) => moment > now));
    if (next < Infinity) this.timer = setTimeout(() => this.tick(), next - now);
    if (status === this.status) return;
    const isEvent = this.status !== null;
    this.status = status;
    this.follow(isEvent ? Math.random() * SOON_S : 0);
    if (isEvent) this.page.list.hasten(SOON_S * spread());
    if (status === "open") this.page.hooks.onOpen(this.page, this.poll);
  }

  follow(seconds = 0) {
    const wanted = this.page.inView.includes(this.poll.id) && this.status !== "scheduled" && !this.isComplete;
    if (wanted === Boolean(this.feed)) return;
    if (this.feed) this.feed.stop();
    const { id } = this.poll;
    const pace = (seconds) => (this.page.pending(id).length ? SOON_S : seconds);
    const onData = (file) => this.take(file);
    this.feed = wanted && new Feed({ path: `/results/${id}.json`, name: "GET /results", onData, pace }).start(seconds);
  }

  async take(body) {
    const file = await this.page.named({ listVersion: Infinity, ...body, id: this.poll.id });
    if (!file) return false;
    if (file.certified) this.isCertified = true;
    if (file.certified && file.certificate.digest) this.isComplete = true;
    if (file.listVersion > this.page.listVersion && !file.certified) this.page.list.hasten(0);
    this.update(file);
    if (file.log) this.page.find(this.poll.id, file.log);
    if (this.isCertified) this.follow();
    return true;
  }

  stop() {
    clearTimeout(this.timer);
    if (this.feed) this.feed.stop();
  }
}

export class Page {
  // `polls`: the numbers of those on the page; `inView`: of those whose standing the viewer sees. Hooks: `onOpen(page, poll)`;
  // `onAnswer(request, status)` to a vote; `onSent(request)`; `onDecided(request)`, when all its votes are.
  constructor({ token, polls, inView, hooks }) {
    const { sub } = JSON.parse(b64decode(token.split(".")[1], "rawurl", "s"));
    Object.assign(this, { token, sub, polls, inView, hooks, sections: new Map(), requests: [], gathering: new Map() });
    Object.assign(this, { names: new Map(), listVersion: 0, sending: false, stopped: false });
    this.list = new Feed({
      path: "/results/polls.json",
      name: "GET /results/polls.json",
      pace: (seconds) => (this.followsOpen() ? LIST_S : seconds),
      onData: (list) => this.takeList(list),
    });
  }

  // `seconds`: until the page is opened.
  start(seconds) {
    this.timer = setTimeout(async () => {
      await get("/config.json", "GET /config.json");
      if (!this.stopped) this.list.start();
    }, seconds * 1000);
  }

  // No request begins after this; those in flight end.
  stop() {
    this.stopped = true;
    [this.timer, this.retry].forEach(clearTimeout);
    this.list.stop();
    this.sections.forEach((section) => section.stop());
  }

  followsOpen() {
    return [...this.sections.values()].some(({ feed, status }) => feed && status === "open");
  }

  async takeList({ listVersion, polls }) {
    const chosen = polls.filter(({ id }) => this.polls.includes(id));
    const known = (poll) => (poll.names || !this.sections.has(poll.id) ? {} : this.sections.get(poll.id).poll);
    const named = await Promise.all(chosen.map((poll) => this.named({ ...known(poll), listVersion, ...poll })));
    if (this.stopped) return false;
    this.listVersion = listVersion;
    for (const poll of named.filter(Boolean)) {
      if (this.sections.has(poll.id)) this.sections.get(poll.id).update(poll);
      else this.sections.set(poll.id, new Section(this, poll));
    }
    return named.every(Boolean);
  }

  // Adds the contestants to a poll; null if there are none.
  async named(poll) {
    if (poll.title) return poll;
    if (!poll.names) return null;
    if (!this.names.has(poll.names)) this.names.set(poll.names, this.readNames(poll.names));
    const names = await this.names.get(poll.names);
    return names && { ...poll, title: names.title, contestants: names.contestants };
  }

  async readNames(path) {
    const response = await get(path, "GET /results/names");
    if (response.status === 200) return contentOf(path, response);
    this.names.delete(path);
    return null;
  }

  isOpen(poll) {
    const section = this.sections.get(poll);
    return Boolean(section) && section.status === "open";
  }

  isCertified() {
    return this.inView.every((id) => this.sections.has(id) && this.sections.get(id).isCertified);
  }

  // One press. `poll` as `onOpen` has it.
  tap(poll, contestant) {
    if (this.stopped) return;
    if (poll.tapsMax > 1) this.gather(poll, contestant);
    else this.add(poll, contestant, true);
  }

  add(poll, contestant, isFinal) {
    const ballots = this.requests.filter((request) => request.poll === poll.id).length;
    const vote = { contestant, count: 1, ballot: poll.votesPerVoter ? ballots + 1 : null };
    const request = { id: uuidV7(), poll: poll.id, opensAt: Date.parse(poll.opensAt), votes: [vote], tries: 0, isFinal };
    Object.assign(request, { voter: this.sub, state: "waiting", pauseMs: 0 });
    this.requests.push(request);
    if (isFinal) this.send();
    return request;
  }

  gather(poll, contestant) {
    const gathered = this.gathering.get(poll.id);
    const vote = gathered && gathered.votes.find((vote) => vote.contestant === contestant && vote.count < poll.tapsMax);
    if (vote) vote.count += 1;
    else if (gathered && gathered.votes.length < VOTES_MAX) gathered.votes.push({ contestant, count: 1, ballot: null });
    else {
      if (gathered) this.finish(gathered);
      const request = this.add(poll, contestant, false);
      this.gathering.set(poll.id, request);
      setTimeout(() => this.finish(request), GATHER_MS);
    }
  }

  finish(request) {
    if (this.gathering.get(request.poll) === request) this.gathering.delete(request.poll);
    request.isFinal = true;
    this.send();
  }

  // One request after the other; one that was refused is sent again first.
  async send() {
    if (this.sending || this.stopped) return;
    this.sending = true;
    try {
      for (let request; (request = this.requests.find(({ isFinal, state }) => isFinal && state === "waiting")); ) {
        if (await this.sendOne(request)) continue;
        const ms = Math.max(request.pauseMs, Math.min(RETRY_MS_MAX, 1000 * 2 ** request.tries++));
        clearTimeout(this.retry);
        if (!this.stopped) this.retry = setTimeout(() => this.send(), jitter(ms));
        return;
      }
    } finally {
      this.sending = false;
    }
  }

  async sendOne(request) {
    request.triedAt = request.triedAt || Date.now();
    const response = await http.asyncRequest("POST", `${BASE_URL}/votes`, JSON.stringify(bodyOf(request)), {
      headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
      responseCallback: ACCEPTED,
      responseType: "text",
      timeout: TIMEOUT,
      tags: { name: "POST /votes" },
    });
    this.hooks.onAnswer(request, response.status);
    request.pauseMs = (Number(response.headers["Retry-After"]) || 0) * 1000;
    if (response.status === 0 || response.status === 429 || response.status >= 500) return false;
    request.state = response.status === 202 ? "sent" : "refused";
    if (request.state === "refused") return true;
    request.sentAt = Date.now();
    request.search = new Search(request, request.triedAt, request.sentAt);
    this.hooks.onSent(request);
    const section = this.sections.get(request.poll);
    if (section && section.feed) section.feed.hasten(SOON_S * spread());
    return true;
  }

  pending(poll) {
    const now = Date.now();
    return this.requests.filter(
      (request) => request.poll === poll && request.state === "sent" && now < request.search.to + LOOK_FOR_MS,
    );
  }

  // Looks for a poll's sent votes in the log that its file names.
  find(poll, log) {
    for (const request of this.pending(poll)) {
      request.search.look(log, {
        read: readBytes,
        isFound: () => request.state !== "sent",
        onFound: (place, outcome) => this.decide(request, place, outcome),
      });
    }
  }

  decide(request, place, outcome) {
    request.votes[place].outcome = outcome;
    if (request.votes.some((vote) => !vote.outcome)) return;
    request.state = "decided";
    this.hooks.onDecided(request);
  }
}

async function readBytes(path) {
  const response = await get(path, "GET /log", { responseType: "binary", responseCallback: http.expectedStatuses(200) });
  return response.status === 200 ? new Uint8Array(response.body) : null;
}

function bodyOf({ id, poll, votes }) {
  const content = ({ contestant, ballot, count }) => ({
    contestant,
    ...(ballot && { ballot }),
    ...(count > 1 && { count }),
  });
  return votes.length > 1 ? { poll, id, votes: votes.map(content) } : { poll, ...content(votes[0]), id };
}
