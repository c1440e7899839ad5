// How a poll stands: from its file, where there is one, else from the ranking. One request at a time, never both.

import { config } from "/shared/config.js";
import { now } from "/shared/clock.js";
import { Feed } from "/shared/feed.js";

/** A poll that was opened by hand has its file within a minute. */
const FILE_AGAIN_S = 60;

/** Whether everyone may see how a poll stands, `status` being where it is in its window. */
export function isShown({ results }, status) {
  return results === "live" || (results === "afterClose" && status === "closed");
}

/**
 * A feed of a poll's file or ranking, to be started. `shown`: whether the standing is public; where it is not, the file
 * still has the turnout. `onData(body)`, `slower()`: as in any feed.
 */
export function followStanding({ id, shown, onData, slower }) {
  let file = null;
  let fileDue = 0;
  let asked = null;
  return new Feed({
    async url() {
      const { api, results } = await config();
      file = results?.replace("{id}", id) ?? null;
      asked = file && (now() >= fileDue || !shown) ? file : shown ? `${api}/polls/${id}/ranking` : null;
      return asked;
    },
    onData,
    slower,
    onRefused(status) {
      if (status !== 404 && status !== 403) return null;
      if (!file) return Infinity;
      if (asked === file) fileDue = now() + FILE_AGAIN_S * 1000;
      return asked === file && shown ? 0 : FILE_AGAIN_S * (1 + Math.random() / 2);
    },
  });
}
