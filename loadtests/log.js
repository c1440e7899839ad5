// The search for a vote in the public log, as in frontend/viewer/log.js: the same files in the same order, at the same
// pace. The formulas are in docs/openapi.yaml, `GET /log/…`.

import crypto from "k6/crypto";

const FILES_AT_ONCE = 3;
const FURTHER_MS = 10_000;
export const LOOK_FOR_MS = 3 * 60_000;
const CLOCK_MS = 1_500;
const ENTRY_BYTES = 32;
const GROUP_BYTES = 4;
const TAG_BYTES = 16;

const bytesOf = (text) => Uint8Array.from(Array.from(text, (character) => character.charCodeAt(0)));
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function derive(...fields) {
  const parts = fields.map((field) => (typeof field === "string" ? bytesOf(field) : field));
  const message = new Uint8Array(parts.reduce((length, part) => length + 2 + part.length, 0));
  let end = 0;
  for (const part of parts) {
    message.set([part.length >> 8, part.length & 255], end);
    message.set(part, end + 2);
    end += 2 + part.length;
  }
  return new Uint8Array(crypto.sha256(message.buffer, "binary"));
}

// Returns the entries of a request's votes: 32 bytes each, tag and check.
function entriesOf({ poll, id, voter, votes }) {
  const hash = derive("request", String(poll), derive("subject", voter), id);
  const [group, seed] = [hash.subarray(0, GROUP_BYTES), hash.subarray(GROUP_BYTES)];
  return votes.map(({ contestant, count, ballot }, place) => {
    const fields = [seed, String(place), String(ballot || 0)];
    const opening = derive("opening", ...fields).subarray(0, 16);
    const entry = new Uint8Array(ENTRY_BYTES);
    entry.set(group);
    entry.set(derive("tag", ...fields).subarray(0, TAG_BYTES - GROUP_BYTES), GROUP_BYTES);
    entry.set(derive("check", opening, String(contestant), String(count)).subarray(0, 16), TAG_BYTES);
    return entry;
  });
}

export class Search {
  // `from`, `to`: the times around the casting.
  constructor(request, from, to) {
    Object.assign(this, { from: from - CLOCK_MS, to: to + CLOCK_MS, asked: new Set(), nextAt: 0, running: false });
    this.entries = entriesOf(request);
    const [a, b, c, d] = this.entries[0];
    this.group = ((a * 256 + b) * 256 + c) * 256 + d;
  }

  // Looks into the cuts that may have the request. Calls back with the place and the outcome of each vote found.
  async look({ at, cuts }, { read, onFound, isFound }) {
    if (this.running || Date.now() > this.to + LOOK_FOR_MS) return;
    this.running = true;
    try {
      for (const path of this.paths(at, cuts, Date.now())) {
        if (isFound() || (this.asked.size >= FILES_AT_ONCE && Date.now() < this.nextAt)) return;
        this.nextAt = Date.now() + FURTHER_MS;
        const body = await read(path);
        if (!body) return;
        this.asked.add(path);
        this.entries.forEach((entry, place) => {
          const outcome = path.endsWith(".votes") ? counted(body, entry) : reason(body, entry);
          if (outcome) onFound(place, outcome);
        });
      }
    } finally {
      this.running = false;
    }
  }

  paths(at, cuts, now) {
    const overlaps = ({ from, to }, margin) =>
      Date.parse(from) <= this.to - margin && Date.parse(to) >= this.from + margin;
    const possible = cuts.filter((cut) => overlaps(cut, 0)).reverse();
    const likely = possible.filter((cut) => overlaps(cut, CLOCK_MS));
    // A neighbour is worth a request once the cut of the moment itself is out, or does not come.
    const isOut = now > this.to + FURTHER_MS || cuts.some(({ to }) => Date.parse(to) >= this.to - CLOCK_MS);
    const near = isOut ? [...likely, ...possible.filter((cut) => !likely.includes(cut))] : likely;
    const index = (bits) => Math.floor(this.group / 2 ** (8 * GROUP_BYTES - bits));
    const of = (name, extension) =>
      near.filter((cut) => cut[name] !== undefined).map((cut) => `${at}/${cut.cut}/${index(cut[name])}.${extension}`);
    return [...of("bits", "votes"), ...of("otherBits", "others")].filter((path) => !this.asked.has(path));
  }
}

function counted(body, entry) {
  for (let start = 0; start < body.length; start += ENTRY_BYTES) {
    if (entry.every((byte, i) => body[start + i] === byte)) return "counted";
  }
  return null;
}

function reason(body, entry) {
  const tag = hex(entry.subarray(0, TAG_BYTES));
  const text = Array.from(body, (byte) => String.fromCharCode(byte)).join("");
  const line = text.split("\n").find((line) => line.startsWith(tag));
  return line && line.slice(tag.length + 1);
}
