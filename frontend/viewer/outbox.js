// The voter's own votes: waiting → sent → counted or refused. They travel in requests, each with an id minted here, so
// retries are idempotent: a request is sent until an answer confirms it, and what it holds never changes. Waiting requests
// survive the redirect to the issuer and back. No vote waits for a read. What became of one is found in the public log; the
// service is asked when the viewer asks, or when ballots conflict.
//
// A request is `{ id, poll, limit, votes, … }`; a vote is `{ contestant, count, ballot, state, reason }`. Its place in
// `votes` is a part of its identity.

import { knowsTime, learnTime, now } from "/shared/clock.js";
import { deadline } from "/shared/fallbacks.js";
import { readBytes } from "/shared/files.js";
import { LOOK_FOR_MS, Search, hex } from "/viewer/log.js";
import { bearer, endSession, onSession, restore, save, voter } from "/shared/session.js";
import { onOtherTab, rememberBallots, rememberedBallots } from "/viewer/memory.js";

const REQUESTS_KEY = "requests";
/** The service's limit of votes in a request. */
const VOTES_MAX = 20;
/** Taps within this time travel together, where a vote may stand for several. */
const GATHER_MS = 1_000;
/** The time that a request may take: at the end of a poll, taps are gathered for less. */
const TRAVEL_MS = 1_000;
const TIMEOUT_MS = 10_000;
/** A request that could not be sent expires after this time. */
const WAIT_MS_MAX = 10 * 60_000;
/** The service's limit of ids to look up in one request. */
const LOOKUP_MAX = 20;
const RETRY_MS_MAX = 30_000;

const jitter = (ms) => ms * (0.75 + Math.random() / 2);

/** Returns a UUIDv7: a time, then random bits. */
function mintId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const time = Math.floor(now());
  for (let i = 0; i < 6; i++) bytes[i] = Math.floor(time / 2 ** (40 - 8 * i)) % 256;
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return hex(bytes).replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}

const waits = ({ state }) => state === "waiting";
const isSent = ({ state }) => state === "sent";

const newVote = (contestant) => ({ contestant, count: 1, ballot: null, state: "waiting", reason: null });

/** Returns a request's body. */
function bodyOf({ id, poll, votes }) {
  const content = ({ contestant, ballot, count }) => ({
    contestant,
    ...(ballot && { ballot }),
    ...(count > 1 && { count }),
  });
  return votes.length > 1 ? { poll, id, votes: votes.map(content) } : { poll, ...content(votes[0]), id };
}

export class Outbox {
  #requests = [];
  /** The requests that still gather taps, by poll. */
  #gathering = new Map();
  /** By poll: the latest cuts of its public log, as its file names them. */
  #logs = new Map();
  /** By poll: ballots used by earlier pages and other devices, as far as known. */
  #used = new Map();
  #sending = false;
  #timer = null;

  /**
   * `api()`: resolves to the API's address. `onChange(request, votes)`: the state of these of its votes changed.
   * `onMine(poll)`: used ballots changed.
   */
  constructor({ api, onChange, onMine }) {
    Object.assign(this, { api, onChange, onMine });
    this.#requests = (restore(REQUESTS_KEY) ?? []).map((request) => ({ ...request, restored: true }));
    const recall = () => (this.#used = rememberedBallots(voter()));
    onSession(() => {
      recall();
      this.#send();
    });
    onOtherTab(() => {
      const polls = new Set([...this.#used.keys(), ...recall().keys()]);
      for (const poll of polls) this.onMine(poll);
    });
    addEventListener("online", () => this.#send());
    // A hidden page may not come back.
    const finish = () => this.#gathering.forEach((request) => this.#finish(request));
    addEventListener("pagehide", finish);
    document.addEventListener("visibilitychange", () => (document.hidden ? finish() : this.#send()));
  }

  /** Returns a poll's votes, in casting order. */
  of(poll) {
    return this.#of(poll).flatMap(({ votes }) => votes);
  }

  #of(poll) {
    return this.#requests.filter((request) => request.poll === poll);
  }

  /** Returns the ballots presumed used. Another device may have used more: then a vote conflicts. */
  used(poll) {
    return new Set([...(this.#used.get(poll) ?? []), ...this.#ownBallots(poll)]);
  }

  /** Returns whether this page's own votes use all ballots of a poll. */
  hasUsedAll({ id, votesPerVoter }) {
    return this.#ownBallots(id).length >= votesPerVoter;
  }

  #ownBallots(poll) {
    const own = this.#of(poll).filter((request) => request.voter === voter()).flatMap(({ votes }) => votes);
    return own.filter(({ ballot, state }) => ballot && state !== "refused").map(({ ballot }) => ballot);
  }

  /** Queues votes for a contestant, `n` of them where the poll has a limit, and sends them as soon as possible. */
  cast(poll, contestant, n = 1) {
    if (poll.tapsMax > 1) return this.#gather(poll, contestant);
    for (let left = n; left > 0; left -= VOTES_MAX) {
      this.#add(poll, Array.from({ length: Math.min(left, VOTES_MAX) }, () => newVote(contestant)));
    }
    this.#save();
    this.#send();
  }

  #add(poll, votes) {
    const request = {
      id: mintId(),
      poll: poll.id,
      limit: poll.votesPerVoter,
      votes,
      mintedAt: knowsTime() ? now() : null,
      tries: 0,
    };
    this.#requests.push(request);
    this.onChange(request, votes);
    return request;
  }

  /** Adds a tap to the votes that are sent together within a second, as far as they have room. */
  #gather(poll, contestant) {
    let request = this.#gathering.get(poll.id);
    const vote = request?.votes.find((vote) => vote.contestant === contestant && vote.count < poll.tapsMax);
    if (vote) vote.count += 1;
    else if (request?.votes.length < VOTES_MAX) request.votes.push(newVote(contestant));
    else {
      if (request) this.#finish(request);
      request = this.#add(poll, [newVote(contestant)]);
      this.#gathering.set(poll.id, request);
      const left = (Date.parse(poll.closesAt) || Infinity) - now() - TRAVEL_MS;
      setTimeout(() => this.#finish(request), Math.min(GATHER_MS, left));
      return;
    }
    this.onChange(request, request.votes);
  }

  /** Ends the gathering: only now is the request stored and sent, so what it holds never changes. */
  #finish(request) {
    if (this.#gathering.get(request.poll) !== request) return;
    this.#gathering.delete(request.poll);
    this.#save();
    this.#send();
  }

  /** Sends the votes that waited during the sign-in. */
  resume() {
    this.#send();
    for (const request of this.#requests) this.onChange(request, request.votes);
  }

  /** Refuses an earlier page's votes that waited too long, once the server's time is known. */
  expire() {
    if (!knowsTime()) return;
    for (const request of this.#requests) {
      const isOld = request.restored && request.mintedAt !== null && now() - request.mintedAt > WAIT_MS_MAX;
      if (isOld) this.#change(request, (vote) => waits(vote) && ["refused", "waitedTooLong"]);
    }
  }

  /** Reads the voter's used ballots; returns success. Only after a conflict: no ballot is left as far as this page knows. */
  async readMine(poll) {
    return this.#lookUp([poll], []);
  }

  /**
   * Asks what became of a poll's sent votes, because the viewer wants to know; returns success. A ballot that is used, by
   * none of these votes, was used on another device.
   */
  async lookUp(poll) {
    const sent = this.#of(poll).filter(({ votes }) => votes.some(isSent));
    return this.#lookUp([poll], sent.slice(0, LOOKUP_MAX));
  }

  /** Returns whether a poll has sent votes that the public log may soon have. */
  isPending(poll) {
    return this.#pending(poll).length > 0;
  }

  #pending(poll) {
    const isPending = ({ search, votes }) => search && votes.some(isSent) && now() < search.until;
    return this.#of(poll).filter(isPending);
  }

  /** Looks for a poll's sent votes in the log that its file names, or in the one that it named last. */
  find(poll, log = this.#logs.get(poll)) {
    if (!log) return;
    this.#logs.set(poll, log);
    for (const request of this.#pending(poll)) {
      request.search.look(log, {
        now,
        read: readBytes,
        onFound: (outcomes) => this.#decide(request, outcomes),
        isFound: () => !request.votes.some(isSent),
      });
    }
  }

  async #decide(request, outcomes) {
    const { poll, votes } = request;
    const taken = votes.filter((_, place) => outcomes.get(place) === "ballotUsed").map(({ ballot }) => ballot);
    // Another device has used some: which are left?
    if (taken.length) await this.readMine(poll);
    this.#used.set(poll, new Set([...(this.#used.get(poll) ?? []), ...taken]));
    this.#change(request, (vote, place) => {
      const outcome = isSent(vote) && outcomes.get(place);
      return outcome && (outcome === "counted" ? ["counted"] : ["refused", outcome]);
    });
  }

  async #lookUp(polls, requests) {
    const ids = requests.map(({ poll, id }) => `${poll}:${id}`);
    const query = [`polls=${polls}`, ...(ids.length ? [`votes=${ids}`] : [])];
    const response = await this.#call(`/votes/mine?${query.join("&")}`);
    if (!response?.ok) return false;
    const answer = await response.json();
    for (const { poll, ballots } of answer.polls) {
      this.#used.set(poll, new Set(ballots.used));
      this.#save(poll);
      this.onMine(poll);
    }
    for (const { receipt } of answer.votes) {
      const request = requests.find(({ id }) => id === receipt.id);
      const used = answer.polls.find(({ poll }) => poll === request.poll)?.ballots.used ?? [];
      // Of several votes, those are absent that are not decided.
      const outcomes = receipt.votes ?? [{ place: 0, ...receipt }];
      this.#change(request, ({ ballot }, place) => {
        const { outcome, reason } = outcomes.find((outcome) => outcome.place === place) ?? {};
        if (outcome === "counted") return ["counted"];
        if (outcome === "rejected") return ["refused", reason];
        // The ballots were read before the receipt.
        return used.includes(ballot) && ["refused", "ballotUsed"];
      });
    }
    return true;
  }

  #save(poll = null) {
    const final = this.#requests.filter((request) => this.#gathering.get(request.poll) !== request);
    save(REQUESTS_KEY, final.filter(({ votes }) => votes.some(waits)));
    // None may be left in use: that of a refused vote is free again.
    if (voter() && poll !== null) rememberBallots(voter(), poll, this.used(poll));
  }

  /** Changes a request's votes. `next(vote, place)`: the new state and its reason, or false. */
  #change(request, next) {
    const changed = request.votes.filter((vote, place) => {
      const [state, reason = null] = next(vote, place) || [vote.state];
      return state !== vote.state && Object.assign(vote, { state, reason });
    });
    if (!changed.length) return;
    this.#save(request.limit ? request.poll : null);
    this.onChange(request, changed);
  }

  /** Returns null without a session or an answer. */
  async #call(path, options = {}) {
    const authorization = bearer();
    if (!authorization) return null;
    try {
      const headers = { authorization, ...options.headers };
      const response = await fetch((await this.api()) + path, { ...options, headers, signal: deadline(TIMEOUT_MS) });
      learnTime(response);
      if (response.status === 401) endSession();
      return response.status === 401 ? null : response;
    } catch {
      return null;
    }
  }

  #next() {
    return this.#requests.find((request) => this.#gathering.get(request.poll) !== request && request.votes.some(waits));
  }

  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    this.expire();
    try {
      for (let request; (request = this.#next()); ) {
        if (!bearer()) return;
        if (!(await this.#sendOne(request))) {
          const ms = Math.max(request.pauseMs ?? 0, Math.min(RETRY_MS_MAX, 1000 * 2 ** request.tries++));
          this.onChange(request, request.votes);
          clearTimeout(this.#timer);
          this.#timer = setTimeout(() => this.#send(), jitter(ms));
          return;
        }
      }
    } finally {
      this.#sending = false;
    }
  }

  /** Returns whether the request is settled; else it is retried. */
  async #sendOne(request) {
    if (request.limit && request.voter !== voter() && !(await this.#takeBallots(request))) return true;
    // The first try may have arrived although its answer was lost.
    if (!request.tried) {
      const { at, cuts } = this.#logs.get(request.poll) ?? { cuts: [{ cut: 0 }] };
      request.tried = { ...(knowsTime() && { from: now() }), after: { at, cut: cuts[0].cut } };
    }
    request.voter = voter();
    const response = await this.#call("/votes", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(bodyOf(request)),
    });
    request.pauseMs = (Number(response?.headers.get("retry-after")) || 0) * 1000;
    if (!response || response.status === 429 || response.status >= 500) return false;
    // Browsers offer no hashes to a page that came over plain HTTP.
    if (response.ok && crypto.subtle) {
      const times = { ...(knowsTime() && { to: now() }), until: now() + LOOK_FOR_MS, isRetried: request.tries > 0 };
      request.search = new Search(request, { ...request.tried, ...times });
    }
    this.#change(request, () => (response.ok ? ["sent"] : ["refused", String(response.status)]));
    return true;
  }

  /** Assigns the next ballots presumed free, before the first sending. Returns whether there is one for any vote. */
  async #takeBallots(request) {
    const { poll, limit, votes } = request;
    const free = () => {
      const used = this.used(poll);
      return Array.from({ length: limit }, (_, i) => i + 1).filter((ballot) => !used.has(ballot));
    };
    if (free().length < votes.length) await this.readMine(poll);
    const ballots = free();
    request.voter = voter();
    // Votes without a ballot leave the request: they are never sent.
    const rest = { ...request, votes: votes.slice(ballots.length) };
    if (ballots.length && rest.votes.length) {
      request.votes = votes.slice(0, ballots.length);
      this.#requests.push(rest);
    }
    votes.slice(0, ballots.length).forEach((vote, i) => (vote.ballot = ballots[i]));
    this.#change(rest, () => ["refused", "allUsed"]);
    this.#save(poll);
    return ballots.length > 0;
  }
}
