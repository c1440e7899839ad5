// The page's search in the public log, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

import { loadModule } from "./load-module.js";

const { LOOK_FOR_MS, Search, entriesOf, indexOf } = await loadModule("/viewer/log.js");

const CAST = Date.parse("2030-05-18T20:15:00Z");
const VOTE = { contestant: 4, count: 5, ballot: 3 };
const REQUEST = { poll: 7, id: "0194f0c0-0000-7000-8000-000000000000", voter: "alice", votes: [VOTE, VOTE, VOTE] };
const AT = "/log/cd3c5bf7/7";

const moment = (seconds) => new Date(CAST + seconds * 1000).toISOString();
const cut = (number, from, to, kinds) => ({ cut: number, from: moment(from), to: moment(to), ...kinds });
const bytes = (...entries) => Uint8Array.from(Buffer.from(entries.join(""), "hex"));

/** A search among files that change, with a clock. */
async function searching(votes = REQUEST.votes, changes = {}) {
  const entries = await entriesOf({ ...REQUEST, votes });
  const times = { from: CAST, to: CAST + 100, after: { at: AT, cut: 10 }, until: CAST + LOOK_FOR_MS, ...changes };
  const search = new Search({ ...REQUEST, votes }, times);
  const state = { entries, files: new Map(), asked: [], found: [], now: CAST + 1_000 };
  state.look = (...cuts) =>
    search.look({ at: AT, cuts }, {
      now: () => state.now,
      read: async (path) => (state.asked.push(path), state.files.get(path) ?? null),
      onFound: (outcomes) => state.found.push(...outcomes),
      isFound: () => state.found.length === votes.length,
    });
  return state;
}

test("an entry is what the service derives", async () => {
  // The same figures are in shared/domain/src/log_entry.rs.
  const { tag, check } = (await entriesOf(REQUEST))[2];
  assert.equal(tag, "917bcf1fa2241ecd060417d2f41952e4");
  assert.equal(check, "7db2a90f09746271d2313a2906b62ccd");
});

test("the first bits of a tag are the number of its file", () => {
  const tag = "917bcf1fa2241ecd060417d2f41952e4";
  assert.deepEqual([0, 1, 4, 8, 16].map((bits) => indexOf(tag, bits)), [0, 1, 9, 0x91, 0x917b]);
});

test("a counted vote is found in one file", async () => {
  const state = await searching();
  const [a, b, c] = state.entries.map(({ tag, check }) => tag + check);
  state.files.set(`${AT}/12/${indexOf(a, 4)}.votes`, bytes("00".repeat(32), a, b, c));
  await state.look(cut(12, -3, 1, { bits: 4, otherBits: 0 }), cut(11, -6, -2, { bits: 4 }));
  assert.deepEqual(state.found, [0, 1, 2].map((place) => [place, "counted"]));
  assert.equal(state.asked.length, 1, "neither the cut before it nor the other outcomes");
});

test("a vote that does not count has a reason", async () => {
  const state = await searching([VOTE]);
  state.files.set(`${AT}/12/0.votes`, bytes());
  const text = `${"0".repeat(32)} withdrawn\n${state.entries[0].tag} ballotUsed\n`;
  state.files.set(`${AT}/12/0.others`, new TextEncoder().encode(text));
  await state.look(cut(12, -3, 1, { bits: 0, otherBits: 0 }));
  assert.deepEqual(state.found, [[0, "ballotUsed"]]);
});

test("an entry of another content is not the vote", async () => {
  const state = await searching([VOTE]);
  const [other] = await entriesOf({ ...REQUEST, votes: [{ ...VOTE, contestant: 5 }] });
  assert.equal(other.tag, state.entries[0].tag);
  state.files.set(`${AT}/12/0.votes`, bytes(other.tag, other.check));
  await state.look(cut(12, -3, 1, { bits: 0 }));
  assert.deepEqual(state.found, []);
});

test("three files at once, then one every 10 s, and none after 3 minutes", async () => {
  const state = await searching([VOTE]);
  const cuts = Array.from({ length: 5 }, (_, i) => cut(20 - i, -60, 60, { bits: 0 }));
  for (const { cut } of cuts) state.files.set(`${AT}/${cut}/0.votes`, bytes());
  const numbers = () => state.asked.map((path) => Number(path.split("/")[4]));
  await state.look(...cuts);
  assert.deepEqual(numbers(), [16, 17, 18], "the oldest first");
  await state.look(...cuts);
  state.now += 9_999;
  await state.look(...cuts);
  assert.equal(state.asked.length, 3);
  state.now += 1;
  await state.look(...cuts);
  await state.look(...cuts);
  assert.deepEqual(numbers(), [16, 17, 18, 19]);
  state.now = CAST + LOOK_FOR_MS + 5_000;
  await state.look(...cuts);
  assert.equal(state.asked.length, 4);
});

test("a file that gives no answer is asked for again", async () => {
  const state = await searching([VOTE]);
  const { tag, check } = state.entries[0];
  await state.look(cut(12, -3, 1, { bits: 0 }));
  state.files.set(`${AT}/12/0.votes`, bytes(tag, check));
  await state.look(cut(12, -3, 1, { bits: 0 }));
  assert.deepEqual([state.found, state.asked.length], [[], 1], "not at once");
  state.now += 5_000;
  await state.look(cut(12, -3, 1, { bits: 0 }));
  assert.deepEqual(state.found, [[0, "counted"]]);
});

test("a page that does not know the time looks into the cuts that came after its vote", async () => {
  const state = await searching([VOTE], { from: undefined, to: undefined, after: { at: AT, cut: 12 } });
  const { tag, check } = state.entries[0];
  for (const number of [11, 12, 13]) state.files.set(`${AT}/${number}/0.votes`, bytes());
  state.files.set(`${AT}/14/0.votes`, bytes(tag, check));
  await state.look(cut(14, 86_400, 86_403, { bits: 0 }), cut(13, 86_397, 86_400, { bits: 0 }), cut(12, 86_394, 86_397, { bits: 0 }));
  assert.deepEqual([state.found, state.asked.length], [[[0, "counted"]], 2]);
});

test("a clock that is a second wrong does not hide the cut", async () => {
  for (const [from, to] of [[1, 3], [-3, -1]]) {
    const state = await searching([VOTE]);
    const { tag, check } = state.entries[0];
    state.files.set(`${AT}/12/0.votes`, bytes(tag, check));
    state.now += 12_000;
    await state.look(cut(12, from, to, { bits: 0 }));
    assert.deepEqual(state.found, [[0, "counted"]]);
  }
});

test("a neighbour of the moment's cut is asked after it, and not before it is out", async () => {
  const state = await searching([VOTE]);
  const { tag, check } = state.entries[0];
  state.files.set(`${AT}/12/0.votes`, bytes(tag, check));
  const earlier = cut(11, -4, -1, { bits: 0 });
  await state.look(earlier);
  assert.deepEqual(state.asked, []);
  await state.look(cut(12, -1, 2, { bits: 0 }), earlier);
  assert.deepEqual([state.asked.length, state.found], [1, [[0, "counted"]]]);
});

test("a reason for one of two messages waits for the cut after it", async () => {
  const state = await searching([VOTE], { isRetried: true });
  const { tag, check } = state.entries[0];
  state.files.set(`${AT}/12/0.others`, new TextEncoder().encode(`${tag} beforeOpening\n`));
  state.files.set(`${AT}/13/0.votes`, bytes(tag, check));
  const first = cut(12, -3, 1, { otherBits: 0 });
  await state.look(first);
  assert.deepEqual(state.found, []);
  await state.look(cut(13, -1, 3, { bits: 0 }), first);
  assert.deepEqual(state.found, [[0, "counted"]]);
});

test("the log of another ledger begins with its own first cut", async () => {
  const state = await searching([VOTE], { after: { at: "/log/0badf00d/7", cut: 900 } });
  const { tag, check } = state.entries[0];
  state.files.set(`${AT}/1/0.votes`, bytes(tag, check));
  await state.look(cut(1, -3, 1, { bits: 0 }));
  assert.deepEqual(state.found, [[0, "counted"]]);
});
