// Moments as the crew types them: local time without a zone. One hour a year occurs twice in it, another not at all.
// Imports nothing, so that tests can run it in any time zone.

const MINUTE_MS = 60_000;
const SECOND_MS = 1000;
const DAY_MS = 86_400_000;

const offsetMs = (ms) => -new Date(ms).getTimezoneOffset() * MINUTE_MS;

/** A moment in the form that the field shows: local time, to the second; empty for null. */
export function toField(ms) {
  return ms === null ? "" : new Date(ms + offsetMs(ms)).toISOString().slice(0, 19);
}

/** The moments that a local time stands for, in order: one; two in the hour that occurs twice; none in the one left out. */
export function instantsOf(text) {
  const asUtc = Date.parse(`${text}Z`);
  if (Number.isNaN(asUtc)) return [];
  const offsets = new Set([asUtc - DAY_MS, asUtc + DAY_MS].map(offsetMs));
  return [...offsets].map((offset) => asUtc - offset).filter((ms) => ms + offsetMs(ms) === asUtc).sort((a, b) => a - b);
}

/** Whether two moments are the same to the second, which is as exact as the field is. Null is no moment. */
export function sameSecond(a, b) {
  if (a === null || b === null) return a === b;
  return Math.floor(a / SECOND_MS) === Math.floor(b / SECOND_MS);
}

/**
 * Which of an hour's two occurrences is meant by somebody who had `before` in the field and typed another local time:
 * the same one as before, if that was in such an hour too; else undefined, and the person has to say.
 */
export function likelyOf(instants, before) {
  if (before === null || instantsOf(toField(before)).length < 2) return undefined;
  return instants.find((ms) => offsetMs(ms) === offsetMs(before));
}
