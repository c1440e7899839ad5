// Votes on their way: waiting → sent → counted or refused. Each carries an id minted here, so it may be sent again
// until an answer says that it arrived, and counts once. What waits outlives the way to the issuer and back.

import { now } from "/shared/clock.js";
import { bearer, endSession, onSession } from "/shared/session.js";

const KEPT = "votes";
/** A vote nobody could send is not sent hours after it was meant. */
const WAIT_MS_MAX = 10 * 60_000;
/** A batch of votes is closed after 3 s: asking sooner is asking twice. */
const FIRST_RECEIPT_MS = 4_500;
const RECEIPT_MS_MAX = 60_000;
const RECEIPTS_MAX = 20;
/** From here on an unknown vote in a poll with a limit may have met its ballot used elsewhere. */
const RECEIPTS_BEFORE_DOUBT = 2;
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
  #used = new Map();
  #sending = false;
  #asking = false;
  #timers = {};

  /** `api()`: a promise of its address. `onChange(vote)`: a vote has a new state. `onMine(poll)`: other ballots. */
  constructor({ api, onChange, onMine }) {
    Object.assign(this, { api, onChange, onMine });
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    this.#votes = kept.filter((vote) => now() - vote.mintedAt < WAIT_MS_MAX);
    onSession(() => {
      this.#used.clear();
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

  /** Ballots used as far as known: null before the voter's own are. */
  used(poll) {
    const known = this.#used.get(poll);
    if (!known) return null;
    const own = this.of(poll).filter((vote) => vote.ballot && vote.state !== "refused");
    return new Set([...known, ...own.map((vote) => vote.ballot)]);
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
      mintedAt: now(),
      tries: 0,
    };
    this.#votes.push(vote);
    this.#keep();
    this.onChange(vote);
    this.#send();
    return vote;
  }

  /** Sends what came back from the issuer, and finds out what is left in a poll with a limit. */
  resume() {
    this.#send();
    for (const vote of this.#votes) this.onChange(vote);
  }

  async readMine(poll) {
    const response = await this.#call(`/polls/${poll}/votes/mine`);
    if (!response?.ok) return false;
    this.#used.set(poll, new Set((await response.json()).used));
    this.onMine(poll);
    return true;
  }

  #keep() {
    sessionStorage.setItem(KEPT, JSON.stringify(this.#votes.filter((vote) => vote.state === "waiting")));
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
      const response = await fetch((await this.api()) + path, { ...options, headers, signal: AbortSignal.timeout(10_000) });
      if (response.status === 401) endSession();
      return response.status === 401 ? null : response;
    } catch {
      return null;
    }
  }

  async #send() {
    if (this.#sending) return;
    this.#sending = true;
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
    if (vote.limit && !vote.ballot) {
      if (!this.#used.has(vote.poll) && !(await this.readMine(vote.poll))) return false;
      const used = this.used(vote.poll);
      vote.ballot = Array.from({ length: vote.limit }, (_, i) => i + 1).find((ballot) => !used.has(ballot)) ?? null;
      if (!vote.ballot) return this.#enter(vote, "refused", "allUsed"), true;
      this.#keep();
    }
    const { id, poll, contestant, ballot } = vote;
    const response = await this.#call("/votes", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(ballot ? { poll, contestant, id, ballot } : { poll, contestant, id }),
    });
    if (!response || response.status === 429 || response.status >= 500) return false;
    if (response.ok) {
      vote.asked = 0;
      vote.due = now() + jitter(FIRST_RECEIPT_MS);
      this.#enter(vote, "sent");
      this.#ask();
    } else {
      this.#enter(vote, "refused", String(response.status));
    }
    return true;
  }

  async #ask() {
    if (this.#asking || document.hidden) return;
    const next = this.#votes.filter((vote) => vote.state === "sent" && vote.due).sort((a, b) => a.due - b.due)[0];
    if (!next || !bearer()) return;
    if (next.due > now()) return this.#later("ask", next.due - now(), () => this.#ask());
    this.#asking = true;
    try {
      await this.#askFor(next);
    } finally {
      this.#asking = false;
    }
    this.#later("ask", 250, () => this.#ask());
  }

  async #askFor(vote) {
    const inDoubt = vote.limit && vote.asked >= RECEIPTS_BEFORE_DOUBT;
    const usedBefore = inDoubt && (await this.readMine(vote.poll)) && this.#used.get(vote.poll).has(vote.ballot);
    const response = await this.#call(`/polls/${vote.poll}/votes/mine?id=${vote.id}`);
    vote.asked += 1;
    vote.due = now() + jitter(Math.min(RECEIPT_MS_MAX, 2_500 * 1.5 ** vote.asked));
    if (response?.status === 404) vote.due = null;
    if (!response?.ok) return;
    const receipt = await response.json();
    if (receipt.outcome === "counted") this.#enter(vote, "counted");
    else if (receipt.outcome === "rejected") this.#enter(vote, "refused", receipt.reason);
    else if (usedBefore) this.#enter(vote, "refused", "ballotUsed");
    else if (vote.asked >= RECEIPTS_MAX) this.#enter(vote, "refused", "undecided");
  }
}
