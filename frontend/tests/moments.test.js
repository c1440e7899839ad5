// Local times of the form on nights when clocks change. Node applies changes of TZ at run time.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { loadModule } from "./load-module.js";

const { instantsOf, likelyOf, sameSecond, toField } = await loadModule("/control/moments.js");

const HALF_HOUR_MS = 1_800_000;
const ZONES = [
  "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe",
  "Pacific/Apia", "America/St_Johns", "Africa/Casablanca",
];

function inZone(zone, work) {
  const before = process.env.TZ;
  process.env.TZ = zone;
  try {
    return work();
  } finally {
    if (before === undefined) delete process.env.TZ;
    else process.env.TZ = before;
  }
}

const iso = (instants) => instants.map((ms) => new Date(ms).toISOString());

describe("moments", () => {
  test("a repeated hour has two instants, a skipped hour none", () => {
    inZone("Europe/Berlin", () => {
      assert.deepEqual(iso(instantsOf("2026-10-25T02:30")), ["2026-10-25T00:30:00.000Z", "2026-10-25T01:30:00.000Z"]);
      assert.deepEqual(iso(instantsOf("2026-10-25T01:59:59")), ["2026-10-24T23:59:59.000Z"]);
      assert.deepEqual(iso(instantsOf("2026-10-25T03:00:00")), ["2026-10-25T02:00:00.000Z"]);
      assert.deepEqual(instantsOf("2026-03-29T02:30"), []);
      assert.deepEqual(iso(instantsOf("2026-03-29T03:00")), ["2026-03-29T01:00:00.000Z"]);
    });
    inZone("Australia/Lord_Howe", () => {
      // Clocks change by half an hour there.
      assert.equal(instantsOf("2026-04-05T01:45").length, 2);
      assert.equal(instantsOf("2026-04-05T01:29").length, 1);
    });
    assert.deepEqual(instantsOf(""), []);
  });

  test("every half hour of a year survives the field, in every zone", () => {
    for (const zone of ZONES) {
      inZone(zone, () => {
        const start = Date.parse("2026-01-01T00:00:00Z");
        for (let ms = start; ms < start + 366 * 86_400_000; ms += HALF_HOUR_MS) {
          const instants = instantsOf(toField(ms));
          assert.ok(instants.includes(ms), `${zone}: ${new Date(ms).toISOString()} is lost`);
          assert.ok(instants.every((other) => toField(other) === toField(ms)), `${zone}: ${iso(instants)}`);
          assert.ok(instants.length <= 2);
        }
      });
    }
  });

  test("a whole minute is equal with and without seconds, as browsers differ", () => {
    assert.deepEqual(instantsOf("2026-11-25T20:00"), instantsOf("2026-11-25T20:00:00"));
    assert.ok(sameSecond(Date.parse("2026-11-25T20:00:00.400Z"), Date.parse("2026-11-25T20:00:00Z")));
    assert.ok(!sameSecond(Date.parse("2026-11-25T20:00:01Z"), Date.parse("2026-11-25T20:00:00.999Z")));
    assert.ok(sameSecond(null, null) && !sameSecond(null, 0) && !sameSecond(0, null));
  });

  test("the second of two hours stays the second; without a hint nothing is guessed", () => {
    inZone("Europe/Berlin", () => {
      const [first, second] = instantsOf("2026-10-25T02:30");
      const both = instantsOf("2026-10-25T02:45");
      assert.equal(likelyOf(both, first), both[0]);
      assert.equal(likelyOf(both, second), both[1]);
      assert.equal(likelyOf(both, Date.parse("2026-10-24T20:00:00Z")), undefined);
      assert.equal(likelyOf(both, null), undefined);
    });
  });
});
