// The server's time while a device's clock is set, or the device sleeps.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { loadModule } from "./load-module.js";

const MINUTE_MS = 60_000;
const START_MS = Date.parse("2026-11-28T20:00:00Z");

let count = 0;

/** Fakes a device with the true time and the errors of its clock and performance.now(); loads the module for it. */
async function device(t, clockMs = 0) {
  const it = { truth: START_MS, clockMs, pausedMs: 0 };
  t.mock.method(Date, "now", () => it.truth + it.clockMs);
  t.mock.method(performance, "now", () => it.truth - START_MS - it.pausedMs);
  Object.assign(it, await loadModule("/shared/clock.js", `device ${(count += 1)}`));
  it.answer = (at = it.truth) => it.learnTime(new Response(null, { headers: { date: new Date(at).toUTCString() } }));
  return it;
}

describe("the server's time", () => {
  test("is not known before an answer, nor after one without a date", async (t) => {
    const it = await device(t, 20 * MINUTE_MS);
    assert.ok(!it.knowsTime());
    it.learnTime(new Response());
    assert.ok(!it.knowsTime());
    assert.equal(it.now(), Date.now());
    it.answer();
    assert.ok(it.knowsTime());
    assert.equal(it.now(), it.truth);
  });

  for (const minutes of [-15, 15]) {
    test(`stays right when a clock that is ${minutes} minutes wrong is set right`, async (t) => {
      const it = await device(t, minutes * MINUTE_MS);
      it.answer();
      it.truth += 30_000;
      it.clockMs = 0;
      assert.equal(it.now(), it.truth);
      assert.ok(!it.knowsTime(), "it might have been a sleep");
      it.answer();
      assert.ok(it.knowsTime());
      assert.equal(it.now(), it.truth);
    });
  }

  test("is not certain after a sleep in which performance.now() stopped, until an answer comes", async (t) => {
    const it = await device(t);
    it.answer();
    it.truth += 30 * MINUTE_MS;
    it.pausedMs = 30 * MINUTE_MS;
    assert.ok(!it.knowsTime());
    it.answer();
    assert.ok(it.knowsTime());
    assert.equal(it.now(), it.truth);
  });

  test("is certain after a sleep in which performance.now() advanced", async (t) => {
    const it = await device(t);
    it.answer();
    it.truth += 30 * MINUTE_MS;
    assert.ok(it.knowsTime());
    assert.equal(it.now(), it.truth);
  });

  test("is the latest of all answers, unless they differ by more than seconds", async (t) => {
    const it = await device(t);
    it.answer();
    it.answer(START_MS - 3_000);
    assert.equal(it.now(), START_MS);
    it.answer(START_MS - MINUTE_MS);
    assert.equal(it.now(), START_MS - MINUTE_MS);
  });
});
