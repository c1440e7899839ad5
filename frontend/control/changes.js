// The differences between versions of a poll, their merge, and the request bodies. Times are compared as instants, never
// as texts. Imports nothing, so that tests can load it without a browser.
//
// A poll's values are a Map: `title`, `opensAt` and `closesAt` (milliseconds or null), `votesPerVoter`, `tapsMax`, `results`,
// `pace`, and each contestant as `contestant.<number>`, or as `new.<n>` until it is saved.

const PLAIN = ["title", "opensAt", "closesAt", "votesPerVoter", "tapsMax", "results", "pace"];
const MOMENTS = ["opensAt", "closesAt"];

const isContestant = (key) => key.startsWith("contestant.") || key.startsWith("new.");
const moment = (text) => (text ? Date.parse(text) : null);

/** Returns the values of a poll of the API. */
export function valuesOf(poll) {
  const plain = PLAIN.map((key) => [key, (MOMENTS.includes(key) ? moment(poll[key]) : poll[key]) ?? null]);
  const contestants = poll.contestants.map(({ number, name, imageUrl }) => {
    return [`contestant.${number}`, { number, name, imageUrl: imageUrl ?? null }];
  });
  return new Map([...plain, ...contestants]);
}

/** Returns whether two values of one key are equal. */
export function same(a, b) {
  if (a === b) return true;
  if (!a || !b || typeof a !== "object" || typeof b !== "object") return (a ?? null) === (b ?? null);
  return a.number === b.number && a.name === b.name && a.imageUrl === b.imageUrl;
}

/** Returns the keys whose values differ. */
export function differing(before, after) {
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...keys].filter((key) => !same(before.get(key), after.get(key)));
}

/**
 * Compares two edits of one poll. Returns `{ key, before, theirs, mine, by }` for each changed key; `by` is `theirs`,
 * `mine` or `both`. Omits equal changes.
 */
export function compare(before, theirs, mine) {
  const theirKeys = new Set(differing(before, theirs));
  const myKeys = new Set(differing(before, mine));
  return [...new Set([...before.keys(), ...theirs.keys(), ...mine.keys()])]
    .filter((key) => (theirKeys.has(key) || myKeys.has(key)) && !same(theirs.get(key), mine.get(key)))
    .map((key) => ({
      key,
      before: before.get(key),
      theirs: theirs.get(key),
      mine: mine.get(key),
      by: theirKeys.has(key) ? (myKeys.has(key) ? "both" : "theirs") : "mine",
    }));
}

/** Returns their values, with mine for the keys of `chosen`. */
export function merged(theirs, mine, chosen) {
  const result = new Map(theirs);
  for (const key of chosen) {
    if (mine.has(key)) result.set(key, mine.get(key));
    else result.delete(key);
  }
  return result;
}

/** Returns the body of a PATCH from `before` to `after`: the changed fields, and all contestants if one changed. */
export function patchOf(before, after) {
  const keys = differing(before, after);
  const sent = (key) => {
    const value = after.get(key);
    return MOMENTS.includes(key) && value !== null ? new Date(value).toISOString() : value;
  };
  const body = Object.fromEntries(keys.filter((key) => !isContestant(key)).map((key) => [key, sent(key)]));
  if (keys.some(isContestant)) body.contestants = contestantsOf(after);
  return body;
}

/** Returns the contestants of values, in order. */
export const contestantsOf = (values) => [...values].filter(([key]) => isContestant(key)).map(([, contestant]) => contestant);

/** Returns the body of a POST. */
export function draftOf(values) {
  const none = new Map(PLAIN.map((key) => [key, null]));
  return { ...Object.fromEntries(none), ...patchOf(none, values), draft: true };
}
