// How many frames a second the overlay gets, and an empty page beside it, on this machine: a figure, not a test.
// scripts/test_pages.sh frames.js

import { test } from "node:test";

import { BASE, changing, makePoll, sideBySide, somebody } from "./support.js";

const ON_AIR = { viewport: { width: 1920, height: 1080 } };
const SECONDS = 20;

/** Frames, and the longest time between two of them, over some seconds. */
function count(seconds) {
  return new Promise((resolve) => {
    const started = performance.now();
    let [frames, last, longestMs] = [0, started, 0];
    requestAnimationFrame(function look(now) {
      frames += 1;
      longestMs = Math.max(longestMs, now - last);
      last = now;
      if (now - started < seconds * 1000) requestAnimationFrame(look);
      else resolve({ fps: (frames * 1000) / (now - started), longestMs });
    });
  });
}

async function measure(t, name, page) {
  const { fps, longestMs } = await page.evaluate(count, SECONDS);
  t.diagnostic(`${name}: ${fps.toFixed(1)} frames a second over ${SECONDS} s, ${longestMs.toFixed(0)} ms between two at most`);
}

sideBySide("frames", () => {
  test("frames", { timeout: 10 * SECONDS * 1000 }, async (t) => {
    const poll = await makePoll();
    const page = await somebody(t, ON_AIR);
    await measure(t, "an empty page", page);
    let answers = 0;
    // Every second or so, and other people and another order each time: three times as often as on air.
    const headers = { "cache-control": "public, max-age=1" };
    await page.route(/\/ranking$|\/results\//, (route) => route.fulfill({ json: changing(poll, ++answers), headers }));
    await page.goto(`${BASE}/overlay/?poll=${poll.id}`);
    await page.locator("#rows li.shown").first().waitFor();
    await measure(t, "the overlay, all bars moving", page);
    t.diagnostic(`${answers} answers`);
  });
});
