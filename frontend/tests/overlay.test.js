// The overlay: on air for hours.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BASE, castVote, checkAccess, inSeconds, makePoll, screen, somebody, sideBySide } from "./support.js";

const ON_AIR = { viewport: { width: 1920, height: 1080 } };
/** An hour of a show at one answer in 4 s is 900; this many show growth as well. */
const ANSWERS = 150;
const HEAP_GROWTH_BYTES_MAX = 1_000_000;
const shows = (locator, text) => locator.filter({ hasText: text }).waitFor();

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
    await page.route("**/ranking", (route) => {
      answers += 1;
      // Another order and other people each time: eight contend for five places.
      const people = Array.from({ length: 8 }, (_, i) => ({ contestant: i + 1, name: `Person ${i + 1}`, votes: ((i + 1) * answers * 7919) % 1000 }));
      people.sort((a, b) => b.votes - a.votes);
      const totalVotes = people.reduce((sum, { votes }) => sum + votes, 0);
      const ranking = people.map((person, i) => ({ ...person, rank: i + 1, share: person.votes / totalVotes }));
      return route.fulfill({ json: { poll: poll.id, totalVotes, ranking, asOf: inSeconds(0), status: "open" } });
    });
    await page.goto(`${BASE}/overlay/?poll=${poll.id}`);
    const measure = await page.context().newCDPSession(page);
    const run = async (count) => {
      for (const end = answers + count; answers < end; ) {
        await page.clock.runFor(1000);
      }
      await measure.send("HeapProfiler.enable");
      await measure.send("HeapProfiler.collectGarbage");
      const { nodes, jsEventListeners } = await measure.send("Memory.getDOMCounters");
      const { usedSize } = await measure.send("Runtime.getHeapUsage");
      return { nodes, jsEventListeners, usedSize };
    };
    const before = await run(30);
    const after = await run(ANSWERS);
    assert.ok(after.nodes <= before.nodes + 20, `${before.nodes} nodes became ${after.nodes}`);
    assert.ok(after.jsEventListeners <= before.jsEventListeners + 2, "listeners grow");
    const growth = after.usedSize - before.usedSize;
    assert.ok(growth < HEAP_GROWTH_BYTES_MAX, `the heap grew by ${growth} bytes`);
  });
});
