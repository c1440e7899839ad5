// The cost of a page to each viewer: bytes of the first view, and requests in a minute.

import assert from "node:assert/strict";
import { test } from "node:test";

import { BASE, LIST, castVote, makePoll, newPage, until, viewer, waitForList, describeConcurrently } from "./support.js";

const FIRST_VIEW_BYTES_MAX = 28_000;
/** Headers of a request and its answer under HPACK or QPACK, where nearly all are repetitions. */
const HEADER_BYTES = 100;
const ICON_BYTES_MAX = 1_000;
const MINUTE_MS = 60_000;
/** Answers have a TTL of 3 s: no feed may request faster. */
const FEED_MAX = MINUTE_MS / 3000 + 1;

describeConcurrently("what the pages cost", () => {
  test("the first view, compressed", async (t) => {
    const poll = await makePoll();
    await waitForList(poll);
    const page = await newPage(t);
    // Other tests' polls are in the list, too.
    await page.route(LIST, async (route) => {
      const list = await (await route.fetch()).json();
      await route.fulfill({ json: { ...list, polls: list.polls.filter(({ id }) => id === poll.id) } });
    });
    await page.goto(viewer(poll));
    await page.locator(".row").first().waitFor();
    const entries = await page.evaluate(() =>
      [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].map((entry) => ({
        name: entry.name,
        bytes: entry.encodedBodySize,
      })),
    );
    // A headless browser may not load the icon.
    if (!entries.some(({ name }) => name.includes("/shared/icon"))) {
      const name = await page.locator("link[rel=icon]").evaluate((link) => link.href);
      entries.push({ name, bytes: (await (await fetch(name)).arrayBuffer()).byteLength });
    }
    const bytes = entries.reduce((sum, entry) => sum + entry.bytes + HEADER_BYTES, 0);
    t.diagnostic(`${bytes} bytes in ${entries.length} requests`);
    assert.ok(bytes < FIRST_VIEW_BYTES_MAX, `${bytes} bytes: ${JSON.stringify(entries, null, 1)}`);
    assert.ok(entries.every(({ name }) => !name.includes("vendor")), "the sign-in library is loaded before a sign-in");
  });

  test("favicon.ico exists", async () => {
    const answer = await fetch(`${BASE}/favicon.ico`);
    assert.deepEqual([answer.status, answer.headers.get("content-type")], [200, "image/x-icon"]);
    assert.match(answer.headers.get("cache-control"), /public, max-age=[1-9]/);
    assert.ok((await answer.arrayBuffer()).byteLength < ICON_BYTES_MAX);
  });

  test("a minute of watching requests only what the edge caches", { timeout: 3 * MINUTE_MS }, async (t) => {
    const poll = await makePoll();
    await waitForList(poll);
    const page = await newPage(t);
    const answers = [];
    page.on("response", (response) => answers.push(response));
    await page.goto(viewer(poll));
    await page.locator(".row").first().waitFor();
    const first = answers.length;
    await page.waitForFunction((ms) => performance.now() > ms, MINUTE_MS, { timeout: 2 * MINUTE_MS });
    const asked = answers.slice(first).map((answer) => new URL(answer.url()).pathname);
    const [file, list] = [`/results/${poll.id}.json`, "/results/polls.json"];
    // Other tests change polls, and so the list.
    const count = asked.filter((path) => path === file).length;
    assert.deepEqual(asked.filter((path) => path !== file && path !== list), [], "nothing else is requested");
    t.diagnostic(`${count} × ${file}`);
    assert.ok(count <= FEED_MAX, `the file was requested ${count} times`);
    assert.ok(count >= FEED_MAX / 3, `the file was requested only ${count} times`);
    for (const answer of answers) {
      assert.ok(answer.status() < 400, `${answer.status()} ${answer.url()}`);
      assert.match(answer.headers()["cache-control"], /public, max-age=[1-9]/, `the edge may not cache ${answer.url()}`);
    }
  });

  test("a hidden page requests nothing", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    let asked = 0;
    page.on("request", () => (asked += 1));
    await page.addInitScript(() => {
      globalThis.away = false;
      Object.defineProperty(document, "hidden", { get: () => globalThis.away });
    });
    const setAway = (away) =>
      page.evaluate((away) => {
        globalThis.away = away;
        document.dispatchEvent(new Event("visibilitychange"));
      }, away);
    await page.clock.install();
    await page.goto(viewer(poll));
    await page.locator(".row").first().waitFor();
    await setAway(true);
    const before = asked;
    await page.clock.runFor(MINUTE_MS);
    assert.equal(asked, before);
    await castVote(poll.id, 2, "somebody");
    await setAway(false);
    await until("it requests again", async () => {
      await page.clock.runFor(1000);
      return asked > before;
    });
  });
});
