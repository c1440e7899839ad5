// The server's time, on a device whose clock is set, or that sleeps, while a page is open.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { pure } from "./pure.js";

const MINUTE_MS = 60_000;
const START_MS = Date.parse("2026-11-28T20:00:00Z");

let count = 0;

/** A device of its own, with the module: the truth, and how far its clock and its performance.now() are from it. */
async function device(t, clockMs = 0) {
  const it = { truth: START_MS, clockMs, stoodStillMs: 0 };
  t.mock.method(Date, "now", () => it.truth + it.clockMs);
  t.mock.method(performance, "now", () => it.truth - START_MS - it.stoodStillMs);
  Object.assign(it, await pure("/shared/clock.js", `device ${(count += 1)}`));
  it.hear = (at = it.truth) => it.learnTime(new Response(null, { headers: { date: new Date(at).toUTCString() } }));
  return it;
}

describe("the server's time", () => {
  test("is not known before an answer, nor after one that does not say it", async (t) => {
    const it = await device(t, 20 * MINUTE_MS);
    assert.ok(!it.knowsTime());
    it.learnTime(new Response());
    assert.ok(!it.knowsTime());
    assert.equal(it.now(), Date.now());
    it.hear();
    assert.ok(it.knowsTime());
    assert.equal(it.now(), it.truth);
  });

  for (const minutes of [-15, 15]) {
    test(`stays right when a clock that is ${minutes} minutes wrong is set right`, async (t) => {
      const it = await device(t, minutes * MINUTE_MS);
      it.hear();
      it.truth += 30_000;
      it.clockMs = 0;
      assert.equal(it.now(), it.truth);
      assert.ok(!it.knowsTime(), "it might have been a sleep");
      it.hear();
      assert.ok(it.knowsTime());
      assert.equal(it.now(), it.truth);
    });
  }

  test("is not certain after a sleep in which performance.now() stood still, until an answer tells it", async (t) => {
    const it = await device(t);
    it.hear();
    it.truth += 30 * MINUTE_MS;
    it.stoodStillMs = 30 * MINUTE_MS;
    assert.ok(!it.knowsTime());
    it.hear();
    assert.ok(it.knowsTime());
    assert.equal(it.now(), it.truth);
  });

  test("is certain after a sleep in which performance.now() went on", async (t) => {
    const it = await device(t);
    it.hear();
    it.truth += 30 * MINUTE_MS;
    assert.ok(it.knowsTime());
    assert.equal(it.now(), it.truth);
  });

  test("is the latest that any answer tells, by at most seconds", async (t) => {
    const it = await device(t);
    it.hear();
    it.hear(START_MS - 3_000);
    assert.equal(it.now(), START_MS);
    it.hear(START_MS - MINUTE_MS);
    assert.equal(it.now(), START_MS - MINUTE_MS);
  });
});
