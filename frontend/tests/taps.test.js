// Several votes in a request: taps that are gathered for a second, and several ballots given with one tap.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  card, castVote, checkScreen, crew, describeConcurrently, inSeconds, makePoll, mine, newPage, shows, signInAs, until, viewer,
} from "./support.js";

const VOTES_MAX = 20;

/** Records the bodies of the votes that a page or a context sends. */
function bodies(source) {
  const sent = [];
  source.on("request", (request) => {
    if (request.method() === "POST" && request.url().endsWith("/votes")) sent.push(request.postDataJSON());
  });
  return sent;
}

/** Opens a poll as a signed-in viewer. */
async function enter(page, poll, name) {
  await page.goto(viewer(poll));
  await page.locator("#sign-in").click();
  await signInAs(page, name);
  await shows(page.locator("#who"), `Signed in as ${name}`);
  await page.locator(".card:enabled").first().waitFor();
}

/** Taps cards in one go, as fast fingers do: `numbers` of contestants. */
const tap = (page, ...numbers) =>
  page.locator(".card").evaluateAll((cards, numbers) => numbers.forEach((number) => cards[number - 1].click()), numbers);

const times = (n, number) => Array(n).fill(number);
const audit = (poll) => crew("GET", `/admin/polls/${poll.id}/audit`);

describeConcurrently("taps", () => {
  test("a second's taps travel in one request, each contestant's added up", async (t) => {
    const poll = await makePoll({ tapsMax: 50 });
    const page = await newPage(t);
    const sent = bodies(page);
    await enter(page, poll, "tina");
    await tap(page, ...times(7, 1), 3, 3, 1);
    assert.match(await mine(page, 1).textContent(), /^8 waiting/, "the card does not show its taps at once");
    await shows(mine(page, 1), "8 sent");
    await shows(page.locator("#announcer"), "8 votes for Ada sent.");
    const { id, ...content } = sent[0];
    assert.deepEqual(content, { poll: poll.id, votes: [{ contestant: 1, count: 8 }, { contestant: 3, count: 2 }] });
    await tap(page, 2);
    await shows(mine(page, 2), "1 sent");
    const { id: next, ...single } = sent[1];
    assert.deepEqual([single, sent.length], [{ poll: poll.id, contestant: 2 }, 2]);
    assert.notEqual(next, id);
    await shows(mine(page, 1), "8 counted");
    await shows(mine(page, 3), "2 counted");
    await shows(mine(page, 2), "1 counted");
    await shows(page.locator(".row").first().locator(".votes"), /^8$/);
    await checkScreen(page, "viewer-taps");
    const { ledgerVotes, casts } = await audit(poll);
    assert.deepEqual([ledgerVotes, casts], [11, 3]);
  });

  test("taps beyond tapsMax are further votes, and beyond 20 votes another request", async (t) => {
    const poll = await makePoll({ tapsMax: 2 });
    const page = await newPage(t);
    const sent = bodies(page);
    await enter(page, poll, "otto");
    await tap(page, ...times(5, 4));
    await shows(mine(page, 4), "5 sent");
    const pair = { contestant: 4, count: 2 };
    assert.deepEqual(sent[0].votes, [pair, pair, { contestant: 4 }]);
    await tap(page, ...times(2 * VOTES_MAX + 3, 4));
    await shows(mine(page, 4), "48 sent");
    assert.deepEqual(sent.slice(1).map(({ votes }) => votes), [times(VOTES_MAX, pair), [pair, { contestant: 4 }]]);
    await shows(mine(page, 4), "48 counted");
    assert.equal((await audit(poll)).ledgerVotes, 48);
  });

  test("a poll that takes one tap a vote sends each at once", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    const sent = bodies(page);
    await enter(page, poll, "uma");
    await tap(page, 1, 1);
    await shows(mine(page, 1), "2 sent");
    assert.deepEqual(sent.map(({ id, ...content }) => content), times(2, { poll: poll.id, contestant: 1 }));
  });

  test("a reload while taps wait: they are sent as they were, under their id, and count once", async (t) => {
    const poll = await makePoll({ tapsMax: 50 });
    const page = await newPage(t, { expected: /ERR_FAILED/ });
    const sent = bodies(page);
    await enter(page, poll, "rita");
    // The service takes them, and the answer is lost.
    await page.route("**/votes", async (route) => {
      await route.fetch();
      await route.abort();
    });
    await tap(page, ...times(4, 1), 2);
    await until("the taps are sent", () => sent.length);
    await tap(page, ...times(3, 1));
    await page.goto(viewer(poll));
    await shows(mine(page, 1), "7 waiting to be sent");
    await page.unroute("**/votes");
    await page.locator(".card:enabled").first().waitFor();
    await tap(page, 1);
    await signInAs(page, "rita");
    await shows(mine(page, 1), "8 counted");
    await shows(mine(page, 2), "1 counted");
    const lists = new Map();
    for (const { id, ...content } of sent) lists.set(id, (lists.get(id) ?? new Set()).add(JSON.stringify(content)));
    assert.ok(sent.length > lists.size, "nothing was sent again");
    assert.deepEqual([...lists.values()].map(({ size }) => size), [1, 1, 1], "an id had two lists");
    assert.equal((await audit(poll)).ledgerVotes, 9);
  });

  test("a tab that is closed right after the taps has sent them", async (t) => {
    const poll = await makePoll({ tapsMax: 50 });
    const page = await newPage(t);
    await enter(page, poll, "cleo");
    await tap(page, ...times(3, 2));
    await page.close({ runBeforeUnload: true });
    await until("they are counted", async () => (await audit(poll)).ledgerVotes === 3);
  });

  test("two tabs tap for themselves", async (t) => {
    const poll = await makePoll({ tapsMax: 50 });
    const page = await newPage(t);
    const sent = bodies(page.context());
    const tab = await page.context().newPage();
    await enter(page, poll, "zoe");
    await enter(tab, poll, "zoe");
    await Promise.all([tap(page, ...times(6, 1)), tap(tab, ...times(5, 1), 2)]);
    await shows(mine(page, 1), "6 counted");
    await shows(mine(tab, 1), "5 counted");
    assert.equal(new Set(sent.map(({ id }) => id)).size, 2);
    assert.equal((await audit(poll)).ledgerVotes, 12);
  });

  test("a page that is put away sends its taps at once, and so does one at the close", async (t) => {
    const poll = await makePoll({ tapsMax: 50, closesAt: inSeconds(40) });
    const page = await newPage(t);
    await page.addInitScript(() => {
      const { fetch } = globalThis;
      globalThis.sentAt = [];
      globalThis.fetch = (url, options) => {
        if (options?.method === "POST" && url.endsWith("/votes")) globalThis.sentAt.push(Date.now());
        return fetch(url, options);
      };
    });
    await enter(page, poll, "nina");
    const waitMs = await page.evaluate(() => {
      const tappedAt = Date.now();
      document.querySelector(".card").click();
      Object.defineProperty(document, "hidden", { value: true, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
      delete document.hidden;
      document.dispatchEvent(new Event("visibilitychange"));
      return new Promise((resolve) => setTimeout(() => resolve(globalThis.sentAt[0] - tappedAt), 500));
    });
    assert.ok(waitMs < 500, `sent after ${waitMs} ms`);
    const sentAt = await page.evaluate(
      (closesAt) =>
        new Promise((resolve) => {
          setTimeout(() => document.querySelector(".card").click(), closesAt - Date.now() - 700);
          setTimeout(() => resolve(globalThis.sentAt[1]), closesAt - Date.now() + 1000);
        }),
      Date.parse(poll.closesAt),
    );
    assert.ok(sentAt < Date.parse(poll.closesAt), "the tap was sent after the close");
    await shows(mine(page, 1), "2 counted");
  });
});

describeConcurrently("several ballots with a tap", () => {
  test("5 of 10 with the keyboard: one request, and a tap gives one again", async (t) => {
    const poll = await makePoll({ votesPerVoter: 10 });
    const page = await newPage(t);
    const sent = bodies(page);
    await enter(page, poll, "emil");
    const amount = page.getByLabel("Votes at a tap");
    assert.equal(await amount.locator("option").count(), 10);
    await amount.focus();
    for (let n = 1; n < 5; n++) await page.keyboard.press("ArrowDown");
    assert.equal(await amount.inputValue(), "5");
    await checkScreen(page, "viewer-give-five");
    await page.getByRole("button", { name: "5 votes for" }).nth(1).focus();
    await page.keyboard.press("Enter");
    await shows(mine(page, 2), "5 sent");
    await shows(page.locator("#announcer"), "5 votes for Bruno sent.");
    await shows(page.locator(".tray"), "5 of 10 votes left");
    assert.equal(await amount.inputValue(), "1");
    const { id, ...content } = sent[0];
    const votes = [1, 2, 3, 4, 5].map((ballot) => ({ contestant: 2, ballot }));
    assert.deepEqual([content, sent.length], [{ poll: poll.id, votes }, 1]);
    await card(page, 1).click();
    await shows(mine(page, 1), "1 sent");
    assert.equal(sent[1].ballot, 6);
    await shows(mine(page, 2), "5 counted");
    await shows(mine(page, 1), "1 counted");
    assert.equal((await audit(poll)).ledgerVotes, 6);
  });

  test("more than 20 are several requests, and none is left to give", async (t) => {
    const poll = await makePoll({ votesPerVoter: 30 });
    const page = await newPage(t);
    const sent = bodies(page);
    await enter(page, poll, "greta");
    await page.getByLabel("Votes at a tap").selectOption("30");
    await card(page, 3).click();
    await shows(mine(page, 3), "30 sent");
    assert.deepEqual(sent.map(({ votes }) => votes.length), [VOTES_MAX, 10]);
    await shows(page.locator(".tray"), "All your votes are used.");
    await page.getByLabel("Votes at a tap").waitFor({ state: "hidden" });
    await shows(mine(page, 3), "30 counted");
  });

  test("ballots that another device has used: each has its own outcome, and the page offers the next ones", async (t) => {
    const poll = await makePoll({ votesPerVoter: 10 });
    for (const ballot of [2, 3]) await castVote(poll.id, 4, "ida", { ballot });
    const page = await newPage(t);
    const sent = bodies(page);
    await enter(page, poll, "ida");
    await page.getByLabel("Votes at a tap").selectOption("5");
    await card(page, 1).click();
    await shows(mine(page, 1), "3 counted · 2 not counted");
    await shows(page.locator(".refusal"), "2 votes for Ada not counted: these votes were used on another device.");
    await shows(page.locator(".tray"), "5 of 10 votes left");
    await page.getByLabel("Votes at a tap").selectOption("5");
    await card(page, 2).click();
    await shows(mine(page, 2), "5 counted");
    assert.deepEqual(sent.map(({ votes }) => votes.map(({ ballot }) => ballot)), [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]);
    assert.equal((await audit(poll)).ledgerVotes, 10);
  });

  test("fewer are left than were given: those are sent, and the others are not", async (t) => {
    const poll = await makePoll({ votesPerVoter: 5 });
    for (const ballot of [1, 2, 3]) await castVote(poll.id, 4, "jan", { ballot });
    const page = await newPage(t);
    await page.goto(viewer(poll));
    await page.locator(".card:enabled").first().waitFor();
    // Two gifts before the sign-in, of more than there is.
    await page.evaluate(() => {
      for (const card of [...document.querySelectorAll(".card")].slice(0, 2)) {
        document.querySelector(".amount select").value = 3;
        card.click();
      }
    });
    await signInAs(page, "jan");
    await shows(mine(page, 1), "3 not counted");
    await shows(mine(page, 2), "2 counted · 1 not counted");
    await shows(page.locator(".tray"), "All your votes are used.");
    await until("everything is decided", async () => (await audit(poll)).ledgerVotes === 5);
  });
});
