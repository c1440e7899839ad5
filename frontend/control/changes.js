// What of a poll was changed, by whom of two, and what is sent for it. Instants are compared, never texts.
// Imports nothing, so that tests can run it alone.
//
// A poll's values are a Map: `title`, `opensAt` and `closesAt` (milliseconds or null), `votesPerVoter`, `results`, and
// for each contestant `contestant.<number>`, or `new.<n>` for one without a place in the poll yet.

const PLAIN = ["title", "opensAt", "closesAt", "votesPerVoter", "results"];
const MOMENTS = ["opensAt", "closesAt"];

const isPerson = (key) => key.startsWith("contestant.") || key.startsWith("new.");
const moment = (text) => (text ? Date.parse(text) : null);

/** A poll of the API as values. */
export function valuesOf(poll) {
  const plain = PLAIN.map((key) => [key, (MOMENTS.includes(key) ? moment(poll[key]) : poll[key]) ?? null]);
  const people = poll.contestants.map(({ number, name, imageUrl }) => {
    return [`contestant.${number}`, { number, name, imageUrl: imageUrl ?? null }];
  });
  return new Map([...plain, ...people]);
}

/** Whether two values of one key are the same. */
export function same(a, b) {
  if (a === b) return true;
  if (!a || !b || typeof a !== "object" || typeof b !== "object") return (a ?? null) === (b ?? null);
  return a.number === b.number && a.name === b.name && a.imageUrl === b.imageUrl;
}

/** The keys whose values differ. */
export function differing(before, after) {
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...keys].filter((key) => !same(before.get(key), after.get(key)));
}

/**
 * What two people made of the same poll: for each key that either has changed `{ key, before, theirs, mine, by }`, `by`
 * being `theirs`, `mine` or `both`. What both have changed alike is left out.
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

/** Their values, with mine in place of theirs for the keys of `chosen`. */
export function merged(theirs, mine, chosen) {
  const result = new Map(theirs);
  for (const key of chosen) {
    if (mine.has(key)) result.set(key, mine.get(key));
    else result.delete(key);
  }
  return result;
}

/** The body of a PATCH that makes `before` into `after`: only what differs, contestants as the whole list. */
export function patchOf(before, after) {
  const keys = differing(before, after);
  const sent = (key) => {
    const value = after.get(key);
    return MOMENTS.includes(key) && value !== null ? new Date(value).toISOString() : value;
  };
  const body = Object.fromEntries(keys.filter((key) => !isPerson(key)).map((key) => [key, sent(key)]));
  if (keys.some(isPerson)) body.contestants = peopleOf(after);
  return body;
}

/** The contestants of values, in their order. */
export const peopleOf = (values) => [...values].filter(([key]) => isPerson(key)).map(([, person]) => person);

/** The body of a POST. */
export function draftOf(values) {
  const none = new Map(PLAIN.map((key) => [key, null]));
  return { ...Object.fromEntries(none), ...patchOf(none, values), draft: true };
}
