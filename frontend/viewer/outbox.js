// Votes on their way: waiting → sent → counted or refused. Each carries an id minted here, so it may be sent again
// until an answer says that it arrived, and counts once. What waits outlives the way to the issuer and back.

import { knowsTime, learnTime, now } from "/shared/clock.js";
import { deadline } from "/shared/feed.js";
import { bearer, endSession, keep, onSession, recall, voter } from "/shared/session.js";

const KEPT = "votes";
const KEPT_BALLOTS = "ballots";
const TIMEOUT_MS = 10_000;
/** A vote nobody could send is not sent hours after it was meant. */
const WAIT_MS_MAX = 10 * 60_000;
/** A batch of votes is closed after 3 s: asking sooner is asking twice. */
const FIRST_RECEIPT_MS = 4_500;
const RECEIPT_MS_MAX = 60_000;
const RECEIPTS_MAX = 20;
/** A vote with a ballot that is unknown for longer than this may have met its ballot used elsewhere. */
const CONFLICT_MS = 20_000;
const RETRY_MS_MAX = 30_000;

const jitter = (ms) => ms * (0.75 + Math.random() / 2);

/** UUIDv7: a time, then chance. */
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
  /** Ballots used by votes of earlier pages and of other devices, by poll, as far as this page has heard. */
  #used = new Map();
  /** Those of them that the service has told. */
  #told = new Map();
  #sending = false;
  #asking = false;
  #timers = {};

  /** `api()`: a promise of its address. `onChange(vote)`: a vote has a new state. `onMine(poll)`: other ballots. */
  constructor({ api, onChange, onMine }) {
    Object.assign(this, { api, onChange, onMine });
    this.#votes = (recall(KEPT) ?? []).map((vote) => ({ ...vote, restored: true }));
    onSession(() => {
      const kept = recall(KEPT_BALLOTS);
      this.#used = new Map(kept?.voter === voter() ? kept.polls.map(([poll, used]) => [poll, new Set(used)]) : []);
      this.#told.clear();
      this.#send();
    });
    for (const name of ["online", "visibilitychange"]) {
      (name === "online" ? window : document).addEventListener(name, () => {
        this.#send();
        this.#ask();
      });
    }
  }

  /** The votes of a poll, in the order of casting. */
  of(poll) {
    return this.#votes.filter((vote) => vote.poll === poll);
  }

  /** The ballots that this page believes used. Another device may have used more: then the vote meets a conflict. */
  used(poll) {
    const own = this.of(poll).filter((vote) => vote.ballot && vote.voter === voter() && vote.state !== "refused");
    return new Set([...(this.#used.get(poll) ?? []), ...own.map((vote) => vote.ballot)]);
  }

  /** Takes a vote in and sends it as soon as it can be sent. */
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
    this.#keep();
    this.onChange(vote);
    this.#send();
    return vote;
  }

  /** Sends what came back from the issuer. */
  resume() {
    this.#send();
    for (const vote of this.#votes) this.onChange(vote);
  }

  /** Gives up the votes of an earlier page that have waited too long. Judges none before the clock is known. */
  judge() {
    if (!knowsTime()) return;
    for (const vote of this.#votes) {
      const waits = vote.restored && vote.state === "waiting" && vote.mintedAt !== null;
      if (waits && now() - vote.mintedAt > WAIT_MS_MAX) this.#enter(vote, "refused", "waitedTooLong");
    }
  }

  /** Asks which ballots the voter has used. For a conflict, and for a tap where none seems left; never beforehand. */
  async readMine(poll) {
    const response = await this.#call(`/polls/${poll}/votes/mine`);
    if (!response?.ok) return false;
    const used = new Set((await response.json()).used);
    this.#used.set(poll, used);
    this.#told.set(poll, used);
    this.onMine(poll);
    return true;
  }

  #keep() {
    keep(KEPT, this.#votes.filter((vote) => vote.state === "waiting"));
    const polls = new Set([...this.#used.keys(), ...this.#votes.filter(({ ballot }) => ballot).map(({ poll }) => poll)]);
    if (voter()) keep(KEPT_BALLOTS, { voter: voter(), polls: [...polls].map((poll) => [poll, [...this.used(poll)]]) });
  }

  #enter(vote, state, reason = null) {
    Object.assign(vote, { state, reason });
    this.#keep();
    this.onChange(vote);
  }

  #later(name, ms, run) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(run, ms);
  }

  /** Null where there is nobody to ask for, or no answer. */
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
    this.judge();
    try {
      for (let vote; (vote = this.#votes.find((vote) => vote.state === "waiting")); ) {
        if (!bearer()) return;
        if (!(await this.#sendOne(vote))) {
          const ms = Math.min(RETRY_MS_MAX, 1000 * 2 ** vote.tries++);
          this.onChange(vote);
          return this.#later("send", jitter(ms), () => this.#send());
        }
      }
    } finally {
      this.#sending = false;
    }
  }

  /** False: to be tried again. */
  async #sendOne(vote) {
    if (vote.limit && !(await this.#takeBallot(vote))) return this.#enter(vote, "refused", "allUsed"), true;
    const { id, poll, contestant, ballot } = vote;
    const response = await this.#call("/votes", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(ballot ? { poll, contestant, id, ballot } : { poll, contestant, id }),
    });
    if (!response || response.status === 429 || response.status >= 500) return false;
    if (response.ok) {
      vote.asked = 0;
      vote.sentAt = performance.now();
      vote.due = vote.sentAt + jitter(FIRST_RECEIPT_MS);
      this.#enter(vote, "sent");
      this.#ask();
    } else {
      this.#enter(vote, "refused", String(response.status));
    }
    return true;
  }

  /** Gives a vote the next ballot that is believed free. False: there is none, and the service says so too. */
  async #takeBallot(vote) {
    if (vote.ballot && vote.voter === voter()) return true;
    const free = () => {
      const used = this.used(vote.poll);
      return Array.from({ length: vote.limit }, (_, i) => i + 1).find((ballot) => !used.has(ballot)) ?? null;
    };
    const ballot = free() ?? ((await this.readMine(vote.poll)) ? free() : null);
    Object.assign(vote, { ballot, voter: voter() });
    this.#keep();
    return ballot !== null;
  }

  async #ask() {
    if (this.#asking || document.hidden) return;
    const next = this.#votes.filter((vote) => vote.state === "sent" && vote.due).sort((a, b) => a.due - b.due)[0];
    if (!next || !bearer()) return;
    const left = next.due - performance.now();
    if (left > 0) return this.#later("ask", left, () => this.#ask());
    this.#asking = true;
    try {
      await this.#askFor(next);
    } finally {
      this.#asking = false;
    }
    this.#later("ask", 250, () => this.#ask());
  }

  async #askFor(vote) {
    const last = vote.asked + 1 >= RECEIPTS_MAX;
    const inDoubt = vote.ballot && vote.unknown && performance.now() - vote.sentAt > CONFLICT_MS;
    const isTold = () => this.#told.get(vote.poll)?.has(vote.ballot);
    if (inDoubt && !isTold() && (last || !vote.checked)) vote.checked = await this.readMine(vote.poll);
    // Used before the receipt is asked for: if that does not know this vote, another one has the ballot.
    const usedBefore = isTold();
    const response = await this.#call(`/polls/${vote.poll}/votes/mine?id=${vote.id}`);
    vote.asked += 1;
    vote.due = performance.now() + jitter(Math.min(RECEIPT_MS_MAX, 2_500 * 1.5 ** vote.asked));
    if (response?.status === 404) vote.due = null;
    if (!response?.ok) return;
    const receipt = await response.json();
    if (receipt.outcome === "counted") this.#enter(vote, "counted");
    else if (receipt.outcome === "rejected") this.#enter(vote, "refused", receipt.reason);
    else if (usedBefore) this.#enter(vote, "refused", "ballotUsed");
    else if (last) this.#enter(vote, "refused", "undecided");
    else vote.unknown = true;
  }
}
