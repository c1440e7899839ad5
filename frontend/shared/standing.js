// Polls as their public files have them: the list, each poll's file, and the file of its names, which is read once.
// `listVersion` tells which of two definitions of a poll is newer.

import { config, read, readOnce } from "/shared/files.js";
import { Feed } from "/shared/feed.js";

/** The interval of the list while an open poll's file tells of a newer one. */
const LIST_S = 60;

const fileOf = async (name) => (await config()).results.replace("{id}", name);

/** Adds title and contestants to a poll of the list, or to a poll's file; null if there are none. */
async function named(poll) {
  if (poll.title) return poll;
  if (!poll.names) {
    const file = await read(await fileOf(poll.id));
    return file && named({ listVersion: Infinity, ...file, id: poll.id });
  }
  const names = await readOnce(poll.names);
  return names && { ...poll, title: names.title, contestants: names.contestants };
}

/** Returns whether a poll's standing is public in a status. */
export function isShown({ results }, status) {
  return results === "live" || (results === "afterClose" && (status === "closed" || status === "certified"));
}

/**
 * Returns a feed of the list, not started. `choose(polls)`: those to show. `known(id)`: a poll with names, if there is one.
 * `onPolls(polls, listVersion)`: the chosen ones with their names. `isOpen()`: whether an open poll's file is followed.
 */
export function followList({ choose, known, onPolls, isOpen, onState }) {
  return new Feed({
    url: () => fileOf("polls"),
    onState,
    pace: (seconds) => (isOpen() ? LIST_S : seconds),
    async onData({ listVersion, polls }) {
      const entry = (poll) => (poll.names ? { listVersion, ...poll } : { ...known(poll.id), listVersion, ...poll });
      const chosen = await Promise.all(choose(polls).map((poll) => named(entry(poll))));
      onPolls(chosen.filter(Boolean), listVersion);
      return chosen.every(Boolean);
    },
  });
}

/** Returns a feed of a poll's file, not started. `onData(file)`: with `id` and all names. */
export function followFile(id, { onData, onState, pace }) {
  return new Feed({
    url: () => fileOf(id),
    onState,
    pace,
    async onData(body) {
      const file = await named({ listVersion: Infinity, ...body, id });
      if (!file) return false;
      const names = new Map(file.contestants.map(({ number, name }) => [number, name]));
      onData({ ...file, ranking: file.ranking?.map((line) => ({ ...line, name: names.get(line.contestant) })) });
    },
  });
}
