// The voter's own votes: waiting → sent → counted or refused. Each has an id minted here, so retries are idempotent:
// a vote is sent until an answer confirms it. Waiting votes survive the redirect to the issuer and back. No vote waits for
// a read, and none is followed by one: the service is asked about votes when the viewer asks, or when ballots conflict.

import { knowsTime, learnTime, now } from "/shared/clock.js";
import { deadline } from "/shared/fallbacks.js";
import { bearer, endSession, onSession, restore, save, voter } from "/shared/session.js";
import { onOtherTab, rememberBallots, rememberedBallots } from "/viewer/memory.js";

const VOTES_KEY = "votes";
const TIMEOUT_MS = 10_000;
/** A vote that could not be sent expires after this time. */
const WAIT_MS_MAX = 10 * 60_000;
/** The service's limit of votes in one request. */
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
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}

export class Outbox {
  #votes = [];
  /** By poll: ballots used by earlier pages and other devices, as far as known. */
  #used = new Map();
  #sending = false;
  #timer = null;

  /** `api()`: resolves to the API's address. `onChange(vote)`: its state changed. `onMine(poll)`: used ballots changed. */
  constructor({ api, onChange, onMine }) {
    Object.assign(this, { api, onChange, onMine });
    this.#votes = (restore(VOTES_KEY) ?? []).map((vote) => ({ ...vote, restored: true }));
    const recall = () => (this.#used = rememberedBallots(voter()));
    onSession(() => {
      recall();
      this.#send();
    });
    onOtherTab(() => {
      const polls = new Set([...this.#used.keys(), ...recall().keys()]);
      for (const poll of polls) this.onMine(poll);
    });
    const proceed = () => this.#send();
    addEventListener("online", proceed);
    document.addEventListener("visibilitychange", proceed);
  }

  /** Returns a poll's votes, in casting order. */
  of(poll) {
    return this.#votes.filter((vote) => vote.poll === poll);
  }

  /** Returns the ballots presumed used. Another device may have used more: then the vote conflicts. */
  used(poll) {
    const own = this.of(poll).filter((vote) => vote.ballot && vote.voter === voter() && vote.state !== "refused");
    return new Set([...(this.#used.get(poll) ?? []), ...own.map((vote) => vote.ballot)]);
  }

  /** Queues a vote, and sends it as soon as possible. */
  cast(poll, contestant) {
    const vote = {
      id: mintId(),
      poll: poll.id,
      contestant,
      limit: poll.votesPerVoter,
      ballot: null,
      state: "waiting",
      reason: null,
      mintedAt: knowsTime() ? now() : null,
      tries: 0,
    };
    this.#votes.push(vote);
    this.#save();
    this.onChange(vote);
    this.#send();
    return vote;
  }

  /** Sends the votes that waited during the sign-in. */
  resume() {
    this.#send();
    for (const vote of this.#votes) this.onChange(vote);
  }

  /** Refuses an earlier page's votes that waited too long, once the server's time is known. */
  expire() {
    if (!knowsTime()) return;
    for (const vote of this.#votes) {
      const waits = vote.restored && vote.state === "waiting" && vote.mintedAt !== null;
      if (waits && now() - vote.mintedAt > WAIT_MS_MAX) this.#setState(vote, "refused", "waitedTooLong");
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
    const sent = this.of(poll).filter(({ state }) => state === "sent");
    return this.#lookUp([poll], sent.slice(0, LOOKUP_MAX));
  }

  async #lookUp(polls, votes) {
    const query = [`polls=${polls}`, ...(votes.length ? [`votes=${votes.map(({ poll, id }) => `${poll}:${id}`)}`] : [])];
    const response = await this.#call(`/votes/mine?${query.join("&")}`);
    if (!response?.ok) return false;
    const answer = await response.json();
    for (const { poll, ballots } of answer.polls) {
      this.#used.set(poll, new Set(ballots.used));
      this.#save(poll);
      this.onMine(poll);
    }
    for (const { receipt } of answer.votes) {
      const vote = votes.find(({ id }) => id === receipt.id);
      const ballotUsed = answer.polls.some(({ poll, ballots }) => poll === vote.poll && ballots.used.includes(vote.ballot));
      if (receipt.outcome === "counted") this.#setState(vote, "counted");
      else if (receipt.outcome === "rejected") this.#setState(vote, "refused", receipt.reason);
      // The ballots were read before the receipt.
      else if (ballotUsed) this.#setState(vote, "refused", "ballotUsed");
    }
    return true;
  }

  #save(poll = null) {
    save(VOTES_KEY, this.#votes.filter((vote) => vote.state === "waiting"));
    if (voter() && poll !== null && this.used(poll).size) rememberBallots(voter(), poll, this.used(poll));
  }

  #setState(vote, state, reason = null) {
    Object.assign(vote, { state, reason });
    this.#save(vote.ballot ? vote.poll : null);
    this.onChange(vote);
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

  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    this.expire();
    try {
      for (let vote; (vote = this.#votes.find((vote) => vote.state === "waiting")); ) {
        if (!bearer()) return;
        if (!(await this.#sendOne(vote))) {
          const ms = Math.max(vote.pauseMs ?? 0, Math.min(RETRY_MS_MAX, 1000 * 2 ** vote.tries++));
          this.onChange(vote);
          clearTimeout(this.#timer);
          this.#timer = setTimeout(() => this.#send(), jitter(ms));
          return;
        }
      }
    } finally {
      this.#sending = false;
    }
  }

  /** Returns whether the vote is settled; else it is retried. */
  async #sendOne(vote) {
    if (vote.limit && !(await this.#takeBallot(vote))) return this.#setState(vote, "refused", "allUsed"), true;
    const { id, poll, contestant, ballot } = vote;
    const response = await this.#call("/votes", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(ballot ? { poll, contestant, id, ballot } : { poll, contestant, id }),
    });
    vote.pauseMs = (Number(response?.headers.get("retry-after")) || 0) * 1000;
    if (!response || response.status === 429 || response.status >= 500) return false;
    if (response.ok) this.#setState(vote, "sent");
    else this.#setState(vote, "refused", String(response.status));
    return true;
  }

  /** Assigns the next ballot presumed free; returns false if the service confirms that none is left. */
  async #takeBallot(vote) {
    if (vote.ballot && vote.voter === voter()) return true;
    const free = () => {
      const used = this.used(vote.poll);
      return Array.from({ length: vote.limit }, (_, i) => i + 1).find((ballot) => !used.has(ballot)) ?? null;
    };
    const ballot = free() ?? ((await this.readMine(vote.poll)) ? free() : null);
    Object.assign(vote, { ballot, voter: voter() });
    this.#save(vote.poll);
    return ballot !== null;
  }
}
