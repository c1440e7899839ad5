// The public log: what became of a vote, in files at the edge. A vote's entry derives from what only this page and the
// service know; to everyone else it is random. `GET /log/…` in docs/openapi.yaml has the formulas.

/** Files asked for at once after a vote, and the waits for each further one, and after a file that gave no answer. */
const FILES_AT_ONCE = 3;
const FURTHER_MS = 10_000;
const FAILED_MS = 5_000;
/** A vote that is not found by then is looked up by hand. */
export const LOOK_FOR_MS = 3 * 60_000;
/** How far this page's time may differ from the queue's. */
const CLOCK_MS = 1_500;
const ENTRY_BYTES = 32;
const GROUP_BYTES = 4;

const bytesOf = (field) => (typeof field === "string" ? new TextEncoder().encode(field) : field);

/** Hashes a label and fields, each after its length in two bytes. */
async function derive(...fields) {
  const parts = fields.map(bytesOf).flatMap((part) => [Uint8Array.of(part.length >> 8, part.length & 255), part]);
  const hash = await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer());
  return new Uint8Array(hash);
}

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Returns the entries of a request's votes, in hexadecimal digits: a tag, and a check that binds contestant and count. */
export async function entriesOf({ poll, id, voter, votes }) {
  const hash = await derive("request", String(poll), await derive("subject", voter), id);
  const [group, seed] = [hash.subarray(0, GROUP_BYTES), hash.subarray(GROUP_BYTES)];
  return Promise.all(
    votes.map(async ({ contestant, count, ballot }, place) => {
      const fields = [seed, String(place), String(ballot ?? 0)];
      const tag = hex(group) + hex((await derive("tag", ...fields)).subarray(0, 16 - GROUP_BYTES));
      const opening = (await derive("opening", ...fields)).subarray(0, 16);
      const check = await derive("check", opening, String(contestant), String(count));
      return { tag, check: hex(check.subarray(0, 16)) };
    }),
  );
}

/** Returns the number of a tag's file among 2^bits. */
export const indexOf = (tag, bits) => Math.floor(parseInt(tag.slice(0, 2 * GROUP_BYTES), 16) / 2 ** (8 * GROUP_BYTES - bits));

/** Looks for one request in cut after cut. */
export class Search {
  #entries;
  #asked = new Set();
  #nextAt = 0;
  #running = false;

  /**
   * `from`, `to`: the server's time around the casting, as far as it is known. `after`: the newest cut before it, `{ at, cut }`.
   * `until`: when this page stops looking. `isRetried`: an earlier try may have arrived as well.
   */
  constructor(request, { from = -Infinity, to = Infinity, after, until, isRetried }) {
    Object.assign(this, { from: from - CLOCK_MS, to: to + CLOCK_MS, after, until, isRetried });
    this.#entries = entriesOf(request);
  }

  /**
   * Looks into those of the cuts that may have the request and were not looked into. `onFound(outcomes)`: those of the votes
   * that a file has, by place: `counted`, or the reason why a vote does not count. `isFound()`: nothing is left to find.
   * `read(path)`: resolves to a file's bytes, or to null without an answer.
   */
  async look({ at, cuts }, { now, read, onFound, isFound }) {
    if (this.#running || now() > this.until) return;
    this.#running = true;
    try {
      const entries = await this.#entries;
      for (const path of this.#paths(entries[0].tag, at, cuts, now())) {
        if (isFound() || now() < this.#nextAt) return;
        const body = await read(path);
        if (!body) {
          this.#nextAt = now() + FAILED_MS;
          return;
        }
        this.#asked.add(path);
        if (this.#asked.size >= FILES_AT_ONCE) this.#nextAt = now() + FURTHER_MS;
        const outcomeIn = path.endsWith(".votes") ? counted : reason;
        const outcomes = entries.map((entry, place) => [place, outcomeIn(body, entry)]).filter(([, outcome]) => outcome);
        if (outcomes.length) onFound(new Map(outcomes));
      }
    } finally {
      this.#running = false;
    }
  }

  /** Counted votes come first, since most votes count, and the cut of the moment before its neighbours. */
  #paths(tag, at, cuts, now) {
    const isNew = ({ cut }) => cut > this.after.cut || at !== this.after.at;
    const overlaps = (margin) => ({ from, to }) => Date.parse(from) <= this.to - margin && Date.parse(to) >= this.from + margin;
    const possible = cuts.filter(isNew).filter(overlaps(0)).reverse();
    const likely = possible.filter(overlaps(CLOCK_MS));
    // A neighbour is worth a request once the cut of the moment itself is out, or does not come.
    const isOut = now > this.to + FURTHER_MS || cuts.some(({ to }) => Date.parse(to) >= this.to - CLOCK_MS);
    const near = isOut ? [...likely, ...possible.filter((cut) => !likely.includes(cut))] : likely;
    // Of two messages of one vote, one may count although the other did not. It may be in the next cut.
    const sure = near.filter(({ cut }) => !this.isRetried || cut < cuts[0].cut);
    const of = (cuts, name, extension) =>
      cuts.filter((cut) => cut[name] !== undefined).map((cut) => `${at}/${cut.cut}/${indexOf(tag, cut[name])}.${extension}`);
    const paths = [...of(near, "bits", "votes"), ...of(sure, "otherBits", "others")];
    return paths.filter((path) => !this.#asked.has(path));
  }
}

function counted(body, { tag, check }) {
  for (let start = 0; start < body.length; start += ENTRY_BYTES) {
    if (hex(body.subarray(start, start + ENTRY_BYTES)) === tag + check) return "counted";
  }
  return null;
}

function reason(body, { tag }) {
  const line = new TextDecoder().decode(body).split("\n").find((line) => line.startsWith(tag));
  return line?.slice(tag.length + 1);
}
