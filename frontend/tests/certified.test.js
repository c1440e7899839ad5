// From the close to the certified result: control room, viewers' page and overlay.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BASE, castVote, openControlRoom, waitForFile, inSeconds, makePoll, pretendOpenedLongAgo, checkScreen, shows, describeConcurrently, newPage, viewer,
} from "./support.js";

const DESK = { viewport: { width: 1280, height: 900 } };
const ON_AIR = { viewport: { width: 1920, height: 1080 } };
const OUTSTANDING = /409/;

/** Counts the requests for a poll's standing. */
function countStandingRequests(page) {
  const asked = { count: 0 };
  page.on("request", (request) => (asked.count += /\/ranking$|\/results\//.test(request.url()) ? 1 : 0));
  return asked;
}

/** Waits for two requests for the poll itself: the standing would have been requested, too. */
async function waitForPolling(page, poll) {
  for (let i = 0; i < 2; i++) await page.waitForResponse(`**/polls/${poll.id}`);
}

describeConcurrently("a certified result", () => {
  test("the crew closes and certifies; viewers and the overlay show the final result, and request no more", async (t) => {
    const poll = await makePoll({ opensAt: inSeconds(0) });
    for (const [voter, contestant] of [["pia", 2], ["quim", 2], ["pia", 4]]) await castVote(poll.id, contestant, voter);
    await waitForFile(poll, 3);
    const [watcher, overlay, desk] = await Promise.all([
      newPage(t), newPage(t, ON_AIR), newPage(t, { ...DESK, expected: OUTSTANDING }),
    ]);
    await Promise.all([watcher, overlay, desk].map(pretendOpenedLongAgo));
    const asked = [countStandingRequests(watcher), countStandingRequests(overlay)];
    await Promise.all([
      watcher.goto(viewer(poll)), overlay.goto(`${BASE}/overlay/?poll=${poll.id}&top=3`), openControlRoom(desk, poll),
    ]);
    await shows(watcher.locator(".total"), "about 2 voters (±0.8%)");
    await shows(desk.locator(".plot"), "about 2 voters (±0.8%)");
    assert.ok(await desk.locator("#certify").isHidden(), "nothing to certify while it is open");

    await desk.locator("#close").click();
    await shows(watcher.locator(".poll .state"), "Closed");
    await shows(watcher.locator(".below"), "still being counted. Then this result is certified.");
    await shows(desk.locator("#desk .state"), "Closed");

    // A second dialog gives the reason before a certification without waiting.
    await desk.locator("#certify").click();
    await desk.locator("#confirm-yes").click();
    await shows(desk.locator("#confirm-text"), "Votes may be outstanding");
    await checkScreen(desk, "control-certify");
    await desk.locator("#confirm-no").click();
    assert.equal((await waitForFile(poll, 3)).certified, false);
    await desk.locator("#certify").click();
    await desk.locator("#confirm-yes").click();
    await shows(desk.locator("#confirm-text"), "will not count");
    await desk.locator("#confirm-yes").click();
    await shows(desk.locator("#certificate"), "without waiting: 3 votes of 2 voters. SHA-256");
    await shows(desk.locator("#desk .state"), "Certified result");
    assert.ok((await desk.locator("#open, #close, #certify").all()).length === 3);
    for (const button of await desk.locator("#open, #close, #certify").all()) assert.ok(await button.isHidden());
    await checkScreen(desk, "control-certified");

    await Promise.all([
      shows(watcher.locator(".poll .state"), "Certified result"), shows(overlay.locator("#state"), "Certified result"),
    ]);
    const { certificate } = await waitForFile(poll, 3);
    const [digest, told] = [await watcher.locator(".certificate code").textContent(), await desk.locator("#certificate").textContent()];
    assert.equal(digest.replaceAll(" ", ""), certificate.digest);
    assert.ok(told.endsWith(certificate.digest), told);
    await shows(watcher.locator(".total"), "2 voters");
    await shows(watcher.locator(".certificate summary"), "though votes may have been outstanding");
    await shows(watcher.locator("#moves"), "Certified result: Bruno is first.");
    await watcher.locator(".certificate summary").click();
    await watcher.locator(".certificate").scrollIntoViewIfNeeded();
    await checkScreen(watcher, "viewer-certified");
    await overlay.evaluate(() => (document.body.style.background = "#34495e"));
    await checkScreen(overlay, "overlay-certified");

    const before = asked.map(({ count }) => count);
    await Promise.all([waitForPolling(watcher, poll), waitForPolling(overlay, poll)]);
    assert.deepEqual(asked.map(({ count }) => count), before, "a final standing is requested again");

    // A page opened now shows the final result first.
    const late = await newPage(t, { colorScheme: "dark", locale: "pt-BR" });
    await pretendOpenedLongAgo(late);
    await late.goto(viewer(poll));
    await shows(late.locator(".poll .state"), "Resultado certificado");
    await shows(late.locator(".row").first(), "Bruno");
    await checkScreen(late, "viewer-certified-pt-dark");
  });

  for (const [name, counts, said] of [
    ["a tie", [3, 3, 1], "Certified result: Ada and Bruno share the first place."],
    ["no votes", [0, 0, 0], "Certified result: there are no votes, so nobody is first."],
    ["one winner", [3, 1, 1], "Certified result: Ada is first."],
  ]) {
    test(`a screen reader announces ${name}`, async (t) => {
      const poll = await makePoll({ opensAt: inSeconds(-3600), closesAt: inSeconds(-60) });
      const page = await newPage(t);
      const total = counts.reduce((sum, votes) => sum + votes, 0);
      const ranking = ["Ada", "Bruno", "Carmen"].map((name, i) => {
        const rank = 1 + counts.filter((votes) => votes > counts[i]).length;
        return { rank, contestant: i + 1, name, votes: counts[i], share: total ? counts[i] / total : 0 };
      });
      const certificate = { certifiedAt: inSeconds(-5), basis: "drained", digest: "0123456789abcdef".repeat(4) };
      const json = { poll: poll.id, totalVotes: total, ranking, asOf: inSeconds(-5), status: "closed", certified: true, certificate };
      await page.route(/\/ranking$|\/results\//, (route) => route.fulfill({ json }));
      await page.goto(viewer(poll));
      await shows(page.locator(".poll .state"), "Certified result");
      await shows(page.locator("#moves"), said);
    });
  }

  test("a poll that hides its standing shows its turnout alone", async (t) => {
    const poll = await makePoll({ opensAt: inSeconds(0), results: "hidden" });
    await castVote(poll.id, 1, "rui");
    await waitForFile(poll, 1);
    const page = await newPage(t);
    await pretendOpenedLongAgo(page);
    await page.goto(viewer(poll));
    await shows(page.locator(".withheld"), "keeps its standing to itself");
    await shows(page.locator(".total"), /1 vote, .* about 1 voter /);
    assert.equal(await page.locator(".row").count(), 0);
  });
});
