// Conversion between instants and local times without a zone, as typed in the form. Where clocks change, one hour a year
// occurs twice, and one not at all. Imports nothing, so that tests can run it in any time zone.

const MINUTE_MS = 60_000;
const SECOND_MS = 1000;
const DAY_MS = 86_400_000;

const offsetMs = (ms) => -new Date(ms).getTimezoneOffset() * MINUTE_MS;

/** Returns an instant as the field's text: local time to the second, or empty for null. */
export function toField(ms) {
  return ms === null ? "" : new Date(ms + offsetMs(ms)).toISOString().slice(0, 19);
}

/** Returns the instants of a local time in order: one; two in the repeated hour; none in the skipped hour. */
export function instantsOf(text) {
  const asUtc = Date.parse(`${text}Z`);
  if (Number.isNaN(asUtc)) return [];
  const offsets = new Set([asUtc - DAY_MS, asUtc + DAY_MS].map(offsetMs));
  return [...offsets].map((offset) => asUtc - offset).filter((ms) => ms + offsetMs(ms) === asUtc).sort((a, b) => a - b);
}

/** Returns whether two instants are equal to the second, the field's precision. Null equals only null. */
export function sameSecond(a, b) {
  if (a === null || b === null) return a === b;
  return Math.floor(a / SECOND_MS) === Math.floor(b / SECOND_MS);
}

/**
 * Guesses the occurrence of a newly typed ambiguous time. If the field held an ambiguous time before, returns the instant
 * with the same UTC offset; else undefined, and the user must choose.
 */
export function likelyOf(instants, before) {
  if (before === null || instantsOf(toField(before)).length < 2) return undefined;
  return instants.find((ms) => offsetMs(ms) === offsetMs(before));
}
