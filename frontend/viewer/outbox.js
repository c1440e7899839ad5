// The voter's own votes: waiting → sent → counted or refused. Each has an id minted here, so retries are idempotent:
// a vote is sent until an answer confirms it. Waiting votes survive the redirect to the issuer and back.

import { knowsTime, learnTime, now } from "/shared/clock.js";
import { deadline } from "/shared/feed.js";
import { bearer, endSession, onSession, restore, save, voter } from "/shared/session.js";

const VOTES_KEY = "votes";
const BALLOTS_KEY = "ballots";
const TIMEOUT_MS = 10_000;
/** A vote that could not be sent expires after this time. */
const WAIT_MS_MAX = 10 * 60_000;
/** The batch window is 3 s: an earlier request finds no receipt. */
const FIRST_RECEIPT_MS = 4_500;
const RECEIPT_MS_MAX = 60_000;
const RECEIPTS_MAX = 20;
/** If a vote stays unknown for longer, another device may have used its ballot. */
const CONFLICT_MS = 20_000;
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
  /** The subset that the service confirmed. */
  #known = new Map();
  #sending = false;
  #reading = false;
  #timers = {};

  /** `api()`: resolves to the API's address. `onChange(vote)`: its state changed. `onMine(poll)`: used ballots changed. */
  constructor({ api, onChange, onMine }) {
    Object.assign(this, { api, onChange, onMine });
    this.#votes = (restore(VOTES_KEY) ?? []).map((vote) => ({ ...vote, restored: true }));
    onSession(() => {
      const stored = restore(BALLOTS_KEY);
      this.#used = new Map(stored?.voter === voter() ? stored.polls.map(([poll, used]) => [poll, new Set(used)]) : []);
      this.#known.clear();
      this.#send();
    });
    const proceed = () => {
      this.#send();
      this.#readReceipts();
    };
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

  /** Reads the voter's used ballots; returns success. Only after a conflict, or a tap with no ballot left. */
  async readMine(poll) {
    const response = await this.#call(`/polls/${poll}/votes/mine`);
    if (!response?.ok) return false;
    const used = new Set((await response.json()).used);
    this.#used.set(poll, used);
    this.#known.set(poll, used);
    this.onMine(poll);
    return true;
  }

  #save() {
    save(VOTES_KEY, this.#votes.filter((vote) => vote.state === "waiting"));
    const polls = new Set([...this.#used.keys(), ...this.#votes.filter(({ ballot }) => ballot).map(({ poll }) => poll)]);
    if (voter()) save(BALLOTS_KEY, { voter: voter(), polls: [...polls].map((poll) => [poll, [...this.used(poll)]]) });
  }

  #setState(vote, state, reason = null) {
    Object.assign(vote, { state, reason });
    this.#save();
    this.onChange(vote);
  }

  #schedule(name, ms, run) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(run, ms);
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
          const ms = Math.min(RETRY_MS_MAX, 1000 * 2 ** vote.tries++);
          this.onChange(vote);
          return this.#schedule("send", jitter(ms), () => this.#send());
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
    if (!response || response.status === 429 || response.status >= 500) return false;
    if (response.ok) {
      vote.reads = 0;
      vote.sentAt = performance.now();
      vote.due = vote.sentAt + jitter(FIRST_RECEIPT_MS);
      this.#setState(vote, "sent");
      this.#readReceipts();
    } else {
      this.#setState(vote, "refused", String(response.status));
    }
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
    this.#save();
    return ballot !== null;
  }

  async #readReceipts() {
    if (this.#reading || document.hidden) return;
    const next = this.#votes.filter((vote) => vote.state === "sent" && vote.due).sort((a, b) => a.due - b.due)[0];
    if (!next || !bearer()) return;
    const left = next.due - performance.now();
    if (left > 0) return this.#schedule("read", left, () => this.#readReceipts());
    this.#reading = true;
    try {
      await this.#readReceipt(next);
    } finally {
      this.#reading = false;
    }
    this.#schedule("read", 250, () => this.#readReceipts());
  }

  async #readReceipt(vote) {
    const last = vote.reads + 1 >= RECEIPTS_MAX;
    const inDoubt = vote.ballot && vote.unknown && performance.now() - vote.sentAt > CONFLICT_MS;
    const isKnown = () => this.#known.get(vote.poll)?.has(vote.ballot);
    if (inDoubt && !isKnown() && (last || !vote.checked)) vote.checked = await this.readMine(vote.poll);
    // Checked before the receipt is read: if the vote is unknown then, another one used the ballot.
    const usedBefore = isKnown();
    const response = await this.#call(`/polls/${vote.poll}/votes/mine?id=${vote.id}`);
    vote.reads += 1;
    vote.due = performance.now() + jitter(Math.min(RECEIPT_MS_MAX, 2_500 * 1.5 ** vote.reads));
    if (response?.status === 404) vote.due = null;
    if (!response?.ok) return;
    const receipt = await response.json();
    if (receipt.outcome === "counted") this.#setState(vote, "counted");
    else if (receipt.outcome === "rejected") this.#setState(vote, "refused", receipt.reason);
    else if (usedBefore) this.#setState(vote, "refused", "ballotUsed");
    else if (last) this.#setState(vote, "refused", "undecided");
    else vote.unknown = true;
  }
}
