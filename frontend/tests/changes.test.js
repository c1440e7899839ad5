// The differences of a poll's versions, and their merge.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { loadModule } from "./load-module.js";

const { compare, differing, draftOf, merged, patchOf, valuesOf } = await loadModule("/control/changes.js");

const POLL = {
  id: 7,
  title: "Who stays?",
  opensAt: "2026-11-25T19:00:00.000Z",
  closesAt: "2026-11-25T20:00:00.400Z",
  votesPerVoter: null,
  tapsMax: 50,
  results: "live",
  pace: "auto",
  contestants: [{ number: 1, name: "Ana", imageUrl: null }, { number: 2, name: "Bia", imageUrl: null }],
};

const changed = (changes) => valuesOf({ ...POLL, ...changes });
const by = (rows) => Object.fromEntries(rows.map(({ key, by }) => [key, by]));

describe("changes", () => {
  test("one instant in two formats is no change", () => {
    const other = changed({ opensAt: "2026-11-25T20:00:00+01:00", closesAt: "2026-11-25T20:00:00.4Z" });
    assert.deepEqual(differing(valuesOf(POLL), other), []);
    assert.deepEqual(patchOf(valuesOf(POLL), other), {});
  });

  test("a picture that is absent and one that is null are the same", () => {
    const contestants = POLL.contestants.map(({ number, name }) => ({ number, name }));
    assert.deepEqual(patchOf(valuesOf(POLL), changed({ contestants })), {});
  });

  test("only what was changed is sent, contestants as the whole list", () => {
    assert.deepEqual(patchOf(valuesOf(POLL), changed({ title: "Who goes?", closesAt: null })), { title: "Who goes?", closesAt: null });
    const after = valuesOf(POLL);
    after.set("new.0", { number: null, name: "Caio", imageUrl: null });
    assert.deepEqual(patchOf(valuesOf(POLL), after), {
      contestants: [...POLL.contestants, { number: null, name: "Caio", imageUrl: null }],
    });
  });

  test("two rows with one number are both sent: the service says which is wrong", () => {
    const after = valuesOf(POLL);
    after.set("contestant.2", { number: 1, name: "Bia", imageUrl: null });
    assert.deepEqual(patchOf(valuesOf(POLL), after).contestants.map(({ number }) => number), [1, 1]);
  });

  test("two edits are told apart by author, and an added contestant survives the merge", () => {
    const before = valuesOf(POLL);
    const theirs = changed({ title: "Theirs", contestants: [...POLL.contestants, { number: 3, name: "Eva", imageUrl: null }] });
    const mine = changed({ title: "Mine", results: "hidden" });
    mine.set("new.0", { number: null, name: "Caio", imageUrl: null });
    assert.deepEqual(by(compare(before, theirs, mine)), { title: "both", "contestant.3": "theirs", results: "mine", "new.0": "mine" });
    const result = merged(theirs, mine, ["title", "results", "new.0"]);
    assert.deepEqual(patchOf(theirs, result), {
      title: "Mine",
      results: "hidden",
      contestants: [...POLL.contestants, { number: 3, name: "Eva", imageUrl: null }, { number: null, name: "Caio", imageUrl: null }],
    });
    assert.deepEqual(patchOf(theirs, merged(theirs, mine, [])), {}, "all theirs: nothing is sent");
  });

  test("equal changes need no choice", () => {
    const same = changed({ title: "The same" });
    assert.deepEqual(compare(valuesOf(POLL), same, new Map(same)), []);
  });

  test("one removed a contestant that the other renamed: a choice", () => {
    const theirs = changed({ contestants: [POLL.contestants[0]] });
    const mine = changed({ contestants: [POLL.contestants[0], { number: 2, name: "Beatriz", imageUrl: null }] });
    const rows = compare(valuesOf(POLL), theirs, mine);
    assert.deepEqual(by(rows), { "contestant.2": "both" });
    assert.equal(rows[0].theirs, undefined);
    assert.deepEqual(patchOf(theirs, merged(theirs, mine, ["contestant.2"])).contestants.length, 2);
  });

  test("a new poll is a draft, with all its fields", () => {
    assert.deepEqual(draftOf(changed({ opensAt: null })), {
      ...{ title: "Who stays?", opensAt: null, closesAt: POLL.closesAt, votesPerVoter: null, tapsMax: 50, results: "live" },
      ...{ pace: "auto", draft: true },
      contestants: POLL.contestants,
    });
  });
});
