// The overlay: on air for hours.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BASE, castVote, changing, checkAccess, inSeconds, makePoll, screen, shows, somebody, sideBySide } from "./support.js";

const ON_AIR = { viewport: { width: 1920, height: 1080 } };
/** Half an hour of a show, at one answer in 4 s. */
const ANSWERS = 500;
/** Answers until the engine has compiled what it will: by then the heap hardly grows any more. */
const WARM_UP = 100;
/** More than a feed waits at its pace, so that each step is one answer. */
const STEP_MS = 5_000;
/** If answers were kept, 500 of them would be 500 kB; what there is, less and less of it, is the engine's own. */
const HEAP_GROWTH_BYTES_MAX = 300_000;
const votes = (answer) => `${changing({}, answer).totalVotes} votes`;

sideBySide("the overlay", () => {
  test("the standing and the countdown, over nothing", async (t) => {
    const poll = await makePoll({ closesAt: inSeconds(600) });
    await Promise.all([castVote(poll.id, 2, "a"), castVote(poll.id, 2, "b"), castVote(poll.id, 4, "c")]);
    const page = await somebody(t, ON_AIR);
    await page.goto(`${BASE}/overlay/?poll=${poll.id}&top=3`);
    await shows(page.locator("#rows li.first"), "Bruno");
    await shows(page.locator("#rows li.first .share"), "66.7%");
    await shows(page.locator("#bell"), /^\d:\d\d$/);
    assert.equal(await page.locator("#rows li.shown").count(), 3);
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(background, "rgba(0, 0, 0, 0)");
    const transitions = await page.evaluate(() =>
      [...document.querySelectorAll("*")].map((element) => getComputedStyle(element).transitionProperty).join(", "),
    );
    assert.deepEqual(new Set(transitions.split(", ")), new Set(["all", "transform", "opacity"]), "all is the initial value");
    await page.evaluate(() => (document.body.style.background = "#34495e"));
    await screen(page, "overlay");
  });

  test("without a poll there is nothing on air", async (t) => {
    const page = await somebody(t, { ...ON_AIR, expected: /404/ });
    const answer = page.waitForResponse("**/polls/2147483647");
    await page.goto(`${BASE}/overlay/?poll=2147483647`);
    await answer;
    assert.ok(await page.locator("#board").isHidden());
    await checkAccess(page, "overlay-empty");
  });

  test("it does not grow", async (t) => {
    const poll = await makePoll();
    const page = await somebody(t, ON_AIR);
    await page.clock.install();
    let answers = 0;
    await page.route(/\/ranking$|\/results\//, (route) => route.fulfill({ json: changing(poll, ++answers) }));
    await page.goto(`${BASE}/overlay/?poll=${poll.id}`);
    const total = page.locator("#total");
    const measure = await page.context().newCDPSession(page);
    const run = async (count) => {
      await shows(total, votes(answers));
      for (const end = answers + count; answers < end; ) {
        const next = votes(answers + 1);
        await page.clock.fastForward(STEP_MS);
        await shows(total, next);
      }
      await measure.send("HeapProfiler.enable");
      await measure.send("HeapProfiler.collectGarbage");
      const { nodes, jsEventListeners } = await measure.send("Memory.getDOMCounters");
      const { usedSize } = await measure.send("Runtime.getHeapUsage");
      return { nodes, jsEventListeners, usedSize };
    };
    await page.locator("#board").waitFor();
    // From here on time passes only as it is told to, however slow the machine.
    await page.clock.pauseAt((await page.evaluate(() => Date.now())) + STEP_MS);
    const before = await run(WARM_UP);
    const after = await run(ANSWERS);
    const growth = after.usedSize - before.usedSize;
    t.diagnostic(`${growth} bytes more after ${ANSWERS} answers, of ${before.usedSize}`);
    assert.ok(after.nodes <= before.nodes + 20, `${before.nodes} nodes became ${after.nodes}`);
    assert.ok(after.jsEventListeners <= before.jsEventListeners + 2, "listeners grow");
    assert.ok(growth < HEAP_GROWTH_BYTES_MAX, `the heap grew by ${growth} bytes`);
  });
});
