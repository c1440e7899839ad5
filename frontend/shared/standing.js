// How a poll stands: from its file, where there is one, else from the ranking. One request at a time, never both.

import { config } from "/shared/config.js";
import { now } from "/shared/clock.js";
import { Feed } from "/shared/feed.js";

/** A poll has its file a minute after its opening at the latest. Asked for earlier, the edge would have no copy. */
const FILE_S = 60;

/** Whether everyone may see how a poll stands, `status` being where it is in its window. */
export function isShown({ results }, status) {
  return results === "live" || (results === "afterClose" && status === "closed");
}

/**
 * A feed of a poll's file or ranking, to be started. `shown`: whether the standing is public; where it is not, the file
 * still has the turnout. `onData(body)`, `slower()`: as in any feed.
 */
export function followStanding({ poll: { id, opensAt }, shown, onData, slower }) {
  let misses = 0;
  const patienceMs = () => FILE_S * 1000 * 2 ** misses * (1 + Math.random() / 2);
  let fileDue = Date.parse(opensAt) + patienceMs();
  let file = null;
  let asked = null;
  return new Feed({
    async url() {
      const { api, results } = await config();
      file = results?.replace("{id}", id) ?? null;
      if (file && now() >= fileDue) asked = file;
      else asked = shown ? `${api}/polls/${id}/ranking` : null;
      return asked;
    },
    onData,
    slower,
    onRefused(status) {
      if (status !== 404 && status !== 403) return null;
      if (asked !== file) return file ? patienceMs() / 1000 : Infinity;
      fileDue = now() + patienceMs();
      misses += 1;
      return 0;
    },
  });
}
