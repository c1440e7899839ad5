// Measures the overlay's frame rate, and an empty page's, on this machine: a benchmark, not a test.
// scripts/test_pages.sh frames.js

import { test } from "node:test";

import { BASE, FILE, fakeFile, makePoll, describeConcurrently, newPage } from "./support.js";

const ON_AIR = { viewport: { width: 1920, height: 1080 } };
const SECONDS = 20;

/** Measures the frame rate and the longest frame over some seconds. */
function countFrames(seconds) {
  return new Promise((resolve) => {
    const started = performance.now();
    let [frames, last, longestMs] = [0, started, 0];
    requestAnimationFrame(function onFrame(now) {
      frames += 1;
      longestMs = Math.max(longestMs, now - last);
      last = now;
      if (now - started < seconds * 1000) requestAnimationFrame(onFrame);
      else resolve({ fps: (frames * 1000) / (now - started), longestMs });
    });
  });
}

async function measure(t, name, page) {
  const { fps, longestMs } = await page.evaluate(countFrames, SECONDS);
  t.diagnostic(`${name}: ${fps.toFixed(1)} frames a second over ${SECONDS} s, ${longestMs.toFixed(0)} ms between two at most`);
}

describeConcurrently("frames", () => {
  test("frames", { timeout: 10 * SECONDS * 1000 }, async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, ON_AIR);
    await measure(t, "an empty page", page);
    let answers = 0;
    // A new standing each second, with other contestants in another order: three times the rate on air.
    await page.route(FILE, (route) => route.fulfill({ json: { ...fakeFile(poll, ++answers), nextInSeconds: 1 } }));
    await page.goto(`${BASE}/overlay/?poll=${poll.id}`);
    await page.locator("#rows li.shown").first().waitFor();
    await measure(t, "the overlay, all bars moving", page);
    t.diagnostic(`${answers} answers`);
  });
});
