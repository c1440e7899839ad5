// The overlay, which is on air for hours.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BASE, FILE, LIST, castVote, fakeFile, checkAccess, crew, inSeconds, makePoll, checkScreen, shows, describeConcurrently, newPage, until,
} from "./support.js";

const ON_AIR = { viewport: { width: 1920, height: 1080 } };
/** The answers of half an hour, one in 4 s. */
const ANSWERS = 500;
/** Answers until the engine has compiled its hot code; then the heap hardly grows. */
const WARM_UP = 100;
/** More than a feed's longest interval, so that each step is one answer. */
const STEP_MS = 5_000;
/** 500 retained answers would be 500 kB. The engine's own growth is smaller, and declines. */
const HEAP_GROWTH_BYTES_MAX = 300_000;
/** The contract's limit. */
const TITLE_MAX = 200;
const people = (count) => Array.from({ length: count }, (_, i) => ({ name: `Person ${i + 1}` }));
/** The title-safe area: 5 % of 1920 x 1080 on each side. */
const SAFE = { left: 96, top: 54, right: 1824, bottom: 1026 };

/** Returns the boxes of an element and of its painted text. */
const boxes = (locator) =>
  locator.evaluate((element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const [box, text] = [element, range].map((of) => of.getBoundingClientRect());
    return { box: box.toJSON(), text: text.toJSON() };
  });

const within = (inner, outer) =>
  inner.left >= outer.left - 0.5 && inner.right <= outer.right + 0.5 && inner.top >= outer.top - 0.5 && inner.bottom <= outer.bottom + 0.5;

const votes = (answer) => `${fakeFile({}, answer).totalVotes} votes`;

describeConcurrently("the overlay", () => {
  test("standing and countdown, on a transparent background", async (t) => {
    const poll = await makePoll({ closesAt: inSeconds(600) });
    await Promise.all([castVote(poll.id, 2, "a"), castVote(poll.id, 2, "b"), castVote(poll.id, 4, "c")]);
    const page = await newPage(t, ON_AIR);
    await page.goto(`${BASE}/overlay/?poll=${poll.id}&top=3`);
    await shows(page.locator("#rows li.first"), "Bruno");
    await shows(page.locator("#rows li.first .share"), "66.7%");
    await shows(page.locator("#timer"), /^\d:\d\d$/);
    assert.equal(await page.locator("#rows li.shown").count(), 3);
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(background, "rgba(0, 0, 0, 0)");
    const transitions = await page.evaluate(() =>
      [...document.querySelectorAll("*")].map((element) => getComputedStyle(element).transitionProperty).join(", "),
    );
    assert.deepEqual(new Set(transitions.split(", ")), new Set(["all", "transform", "opacity"]), "only transforms and opacity are animated; all is the initial value");
    await page.evaluate(() => (document.body.style.background = "#34495e"));
    await checkScreen(page, "overlay");
  });

  for (const [font, missing] of [["its own font", false], ["the machine's font", true]]) {
    test(`a contestant's number of five digits is whole, in ${font}`, async (t) => {
      const poll = await makePoll({ contestants: [{ name: "Ada", number: 12345 }, { name: "Bruno", number: 32767 }, { name: "Carmen", number: 7 }] });
      const page = await newPage(t, { ...ON_AIR, expected: /ERR_FAILED/ });
      if (missing) await page.route("**/*.woff2", (route) => route.abort());
      await page.goto(`${BASE}/overlay/?poll=${poll.id}&top=3`);
      for (const number of ["12345", "32767", "7"]) {
        const place = page.locator("#rows li.shown .number").filter({ hasText: new RegExp(`^${number}$`) });
        await place.waitFor();
        await page.evaluate(() => document.fonts.ready);
        const { box, text } = await boxes(place);
        assert.ok(within({ ...text, top: box.top, bottom: box.bottom }, box), `${number}: ${JSON.stringify({ box, text })}`);
      }
      await page.evaluate(() => (document.body.style.background = "#34495e"));
      if (missing) await checkAccess(page, "overlay-number, without its font");
      else await checkScreen(page, "overlay-number");
    });
  }

  for (const [name, title] of [
    ["words", "Which of these eight contestants shall go on to the final on Saturday night? ".repeat(3)],
    ["one word", "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz".repeat(4)],
    ["wide letters", "WHO MAY WIN? ".repeat(16)],
    ["Chinese", "今晚的决赛谁会胜出请投票".repeat(20)],
  ]) {
    test(`a title of 200 characters with eight rows is inside the title-safe area: ${name}`, async (t) => {
      const poll = await makePoll({ title: title.slice(0, TITLE_MAX).trim(), contestants: people(8) });
      const page = await newPage(t, ON_AIR);
      await page.goto(`${BASE}/overlay/?poll=${poll.id}&top=8`);
      await until("eight rows are shown", async () => (await page.locator("#rows li.shown").count()) === 8);
      await shows(page.locator("#total"), "0 votes");
      await page.waitForFunction(() => document.fonts.check("800 1em Numbers"));
      const { box } = await boxes(page.locator("#board"));
      assert.ok(within(box, SAFE), JSON.stringify(box));
      const head = await boxes(page.locator("h2"));
      assert.ok(within(head.text, head.box) && within(head.box, box), `the title is cut: ${JSON.stringify(head)}`);
      await page.evaluate(() => (document.body.style.background = "#34495e"));
      if (name === "words") await checkScreen(page, "overlay-title");
      else {
        // Rows that fade in have no contrast yet.
        await page.waitForFunction(() => document.getAnimations().every(({ playState }) => playState !== "running"));
        await checkAccess(page, `overlay-title, ${name}`);
      }
    });
  }

  test("a title that fits in no size is clamped, and the board stays in the title-safe area", async (t) => {
    const page = await newPage(t, { viewport: { width: 1920, height: 1000 } });
    const poll = await makePoll({ title: "W".repeat(TITLE_MAX), contestants: people(8) });
    await page.goto(`${BASE}/overlay/?poll=${poll.id}&top=8`);
    await shows(page.locator("#total"), "0 votes");
    await page.waitForFunction(() => document.fonts.check("800 1em Numbers"));
    await page.locator("#title.clamped").waitFor();
    const { box } = await boxes(page.locator("#board"));
    assert.ok(within(box, { ...SAFE, bottom: 1000 - SAFE.top }), JSON.stringify(box));
  });

  test("stacked combining marks stay on the title's background", async (t) => {
    const page = await newPage(t, ON_AIR);
    const stacked = `Z${"\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a".repeat(2)}`;
    const poll = await makePoll({ title: stacked.repeat(Math.floor(TITLE_MAX / stacked.length)), contestants: people(8) });
    await page.goto(`${BASE}/overlay/?poll=${poll.id}&top=8`);
    await shows(page.locator("#total"), "0 votes");
    await page.waitForFunction(() => document.fonts.check("800 1em Numbers"));
    const { box } = await boxes(page.locator("#board"));
    assert.ok(within(box, SAFE), JSON.stringify(box));
    const clip = { x: 0, y: 0, width: ON_AIR.viewport.width, height: Math.floor(box.top) };
    const above = await page.screenshot({ clip, animations: "disabled" });
    await page.evaluate(() => (document.querySelector("#board").style.visibility = "hidden"));
    assert.ok(above.equals(await page.screenshot({ clip, animations: "disabled" })), "something is painted above the board");
  });

  test("a short title has the largest size", async (t) => {
    const page = await newPage(t, ON_AIR);
    await page.goto(`${BASE}/overlay/?poll=${(await makePoll({ contestants: people(8) })).id}&top=8`);
    await shows(page.locator("#title"), "Who goes to the final?");
    const size = () => page.locator("h2").evaluate((title) => getComputedStyle(title).fontSize);
    await until("it has the largest size, in its own font", async () => (await size()) === "72px");
  });

  for (const results of ["hidden", "afterClose"]) {
    test(`a standing that is ${results} is off the air, cached copies of it stay hidden, and it is back when public`, async (t) => {
      const poll = await makePoll();
      const page = await newPage(t, { ...ON_AIR, expected: /503/ });
      await page.goto(`${BASE}/overlay/?poll=${poll.id}&top=3`);
      await page.locator("#rows li.shown").nth(2).waitFor();
      await page.route(LIST, (route) => route.fulfill({ status: 503, body: "" }));
      // Another edge still serves an old file, every other time.
      let files = 0;
      await page.route(FILE, (route) => ((files += 1) % 2 ? route.continue() : route.fulfill({ json: fakeFile(poll, files) })));
      await crew("PATCH", `/admin/polls/${poll.id}`, { results });
      const rows = page.locator("#rows li");
      await until("no row is seen", async () => (await rows.filter({ visible: true }).count()) === 0);
      const before = files;
      await until("two old files have come", () => files > before + 3);
      assert.equal(await rows.filter({ visible: true }).count(), 0);
      assert.equal(await page.locator("#rows").evaluate((list) => list.clientHeight), 0);
      await page.evaluate(() => (document.body.style.background = "#34495e"));
      if (results === "hidden") await checkScreen(page, "overlay-hidden");
      await page.unroute(FILE);
      await crew("PATCH", `/admin/polls/${poll.id}`, { results: "live" });
      await until("three rows are seen", async () => (await rows.filter({ visible: true }).count()) === 3);
    });
  }

  test("before the opening the title is on air, and the standing follows by itself", async (t) => {
    const poll = await makePoll({ opensAt: null });
    const page = await newPage(t, ON_AIR);
    await page.goto(`${BASE}/overlay/?poll=${poll.id}&top=3`);
    await shows(page.locator("#title"), poll.title);
    await shows(page.locator("#state"), "Not open yet");
    await crew("POST", `/admin/polls/${poll.id}/open`);
    await page.locator("#rows li.shown").nth(2).waitFor();
    await shows(page.locator("#state"), "Open");
  });

  test("a language that loads late: English is on air, then the language, and never a key", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { ...ON_AIR, expected: /503/ });
    await page.addInitScript(() => {
      globalThis.said = [];
      const record = () => globalThis.said.push(document.body?.innerText ?? "");
      new MutationObserver(record).observe(document, { childList: true, subtree: true, characterData: true });
    });
    let away = true;
    await page.route("**/text/*pt.*.json", (route) => (away ? route.fulfill({ status: 503, body: "" }) : route.continue()));
    await page.goto(`${BASE}/overlay/?poll=${poll.id}&lang=pt`);
    await shows(page.locator("#state"), "Open");
    await shows(page.locator("#total"), "0 votes");
    away = false;
    await shows(page.locator("#state"), "Aberta");
    await shows(page.locator("#total"), /^0 voto$/);
    const said = await page.evaluate(() => globalThis.said);
    assert.deepEqual(said.filter((text) => /state\.|overlay\./.test(text)), []);
    await page.goto(`${BASE}/overlay/?poll=${poll.id}&lang=constructor`);
    await shows(page.locator("#state"), "Open");
    await shows(page.locator("#total"), "0 votes");
  });

  test("without a poll there is nothing on air", async (t) => {
    const page = await newPage(t, { ...ON_AIR, expected: /404/ });
    const answer = page.waitForResponse("**/results/2147483647.json");
    await page.goto(`${BASE}/overlay/?poll=2147483647`);
    await answer;
    assert.ok(await page.locator("#board").isHidden());
    await checkAccess(page, "overlay-empty");
  });

  test("nodes, listeners and heap do not grow", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, ON_AIR);
    await page.clock.install();
    let answers = 0;
    await page.route(FILE, (route) => route.fulfill({ json: fakeFile(poll, ++answers) }));
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
    // From here on the test alone advances time, however slow the machine.
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
