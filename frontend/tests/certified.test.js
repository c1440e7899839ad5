// From the close to the certified result: control room, viewers' page and overlay.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BASE, FILE, LIST, castVote, openControlRoom, waitForFile, inSeconds, makePoll, checkScreen, shows, describeConcurrently, newPage, until, viewer, waitForList,
} from "./support.js";

const DESK = { viewport: { width: 1280, height: 900 } };
const ON_AIR = { viewport: { width: 1920, height: 1080 } };
const OUTSTANDING = /409/;
/** The least time between two requests for a certified file without a digest. */
const RECOUNT_MS_MIN = 10_000;
const DIGEST = "0123456789abcdef".repeat(4);
const GROUPS = DIGEST.match(/.{8}/g).join(" ");
const [BEFORE, EQUAL, DIFFERENT] = [null, "equal", "different"].map((recount) => ({
  certifiedAt: inSeconds(-5), basis: "evidence", rejected: {},
  ...(recount && { digest: DIGEST, recount, supplementedAt: inSeconds(-1) }),
}));
const SAID = { before: "The votes are being recounted", different: "A recount of the votes differs from" };

/** Returns a certified poll's file. `votes`: of each contestant. */
function certifiedFile(poll, certificate, votes = [3, 1, 1]) {
  const total = votes.reduce((sum, n) => sum + n, 0);
  const ranking = ["Ada", "Bruno", "Carmen"].map((name, i) => {
    const rank = 1 + votes.filter((n) => n > votes[i]).length;
    return { rank, contestant: i + 1, name, votes: votes[i], share: total ? votes[i] / total : 0 };
  });
  const turnout = certificate.digest ? { votes: total, voters: 4, votersError: 0 } : { votes: total, voters: 4, votersError: 0.0081 };
  const { id, ...definition } = poll;
  const figures = { totalVotes: total, ranking, turnout, asOf: inSeconds(-5) };
  return { ...definition, poll: id, status: "closed", certified: true, certificate, nextInSeconds: 10, ...figures };
}

const closedPoll = () => makePoll({ opensAt: inSeconds(-3600), closesAt: inSeconds(-60) });

/** Answers requests for the standing with `file()`. */
const stubStanding = (page, file) => page.route(FILE, async (route) => route.fulfill({ json: await file() }));

/** Counts the requests for a poll's standing. */
function countStandingRequests(page) {
  const asked = { count: 0 };
  page.on("request", (request) => (asked.count += FILE.test(request.url()) ? 1 : 0));
  return asked;
}

/** Waits for two requests for the list: the standing would have been requested, too. */
async function waitForPolling(page) {
  for (let i = 0; i < 2; i++) await page.waitForResponse(LIST);
}

describeConcurrently("a certified result", () => {
  test("the crew closes and certifies; viewers and the overlay show the final result, and request no more", async (t) => {
    const poll = await makePoll({ opensAt: inSeconds(0) });
    for (const [voter, contestant] of [["pia", 2], ["quim", 2], ["pia", 4]]) await castVote(poll.id, contestant, voter);
    await waitForFile(poll, 3);
    const [watcher, overlay, desk] = await Promise.all([
      newPage(t), newPage(t, ON_AIR), newPage(t, { ...DESK, expected: OUTSTANDING }),
    ]);
    const asked = [countStandingRequests(watcher), countStandingRequests(overlay)];
    await Promise.all([
      watcher.goto(viewer(poll)), overlay.goto(`${BASE}/overlay/?poll=${poll.id}&top=3`), openControlRoom(desk, poll),
    ]);
    await shows(watcher.locator(".total"), "about 2 voters (±0.8%)");
    await shows(desk.locator(".plot"), "about 2 voters (±0.8%)");
    assert.ok(await desk.locator("#certify").isHidden(), "nothing to certify while it is open");

    await desk.locator("#close").click();
    await shows(desk.locator("#desk .state"), "Closed");

    // A second dialog gives the reason before a certification without waiting. At once: without a sign of a failed batch,
    // the result is certified by itself some 9 s after the close.
    await desk.locator("#certify").click();
    await desk.locator("#confirm-yes").click();
    await shows(desk.locator("#confirm-text"), "Votes may be outstanding");
    await desk.locator("#confirm-no").click();
    assert.equal((await waitForFile(poll, 3)).certified, false);
    await desk.locator("#certify").click();
    await desk.locator("#confirm-yes").click();
    await shows(desk.locator("#confirm-text"), "will not count");
    await desk.locator("#confirm-yes").click();
    await shows(desk.locator("#certificate"), "without waiting: 3 votes. 2 voters. SHA-256");
    await shows(desk.locator("#desk .state"), "Certified result");
    assert.ok((await desk.locator("#open, #close, #certify").all()).length === 3);
    for (const button of await desk.locator("#open, #close, #certify").all()) assert.ok(await button.isHidden());
    await checkScreen(desk, "control-certified");

    await Promise.all([
      shows(watcher.locator(".poll .state"), "Certified result"), shows(overlay.locator("#state"), "Certified result"),
    ]);
    const { certificate } = await waitForFile(poll, 3, true);
    assert.equal(certificate.recount, "equal");
    const told = await desk.locator("#certificate").textContent();
    assert.ok(told.endsWith(certificate.digest), told);
    await until("the digest is shown", async () => {
      return (await watcher.locator(".certificate code").textContent()).replaceAll(" ", "") === certificate.digest;
    });
    await shows(watcher.locator(".total"), "2 voters");
    await shows(watcher.locator(".certificate summary"), "though votes may have been outstanding");
    await shows(watcher.locator("#moves"), "Certified result: Bruno is first.");
    await watcher.locator(".certificate summary").click();
    await watcher.locator(".certificate").scrollIntoViewIfNeeded();
    await checkScreen(watcher, "viewer-certified");
    await overlay.evaluate(() => (document.body.style.background = "#34495e"));
    await checkScreen(overlay, "overlay-certified");

    const before = asked.map(({ count }) => count);
    await Promise.all([waitForPolling(watcher), waitForPolling(overlay)]);
    assert.deepEqual(asked.map(({ count }) => count), before, "a final standing is requested again");

    // A page opened now shows the final result first.
    const late = await newPage(t, { colorScheme: "dark", locale: "pt-BR" });
    await late.goto(viewer(poll));
    await shows(late.locator(".poll .state"), "Resultado certificado");
    await shows(late.locator(".row").first(), "Bruno");
    await checkScreen(late, "viewer-certified-pt-dark");
  });

  test("before the certification, viewers and crew are told that votes may be outstanding", async (t) => {
    const poll = await closedPoll();
    const [page, desk] = await Promise.all([newPage(t), newPage(t, { ...DESK, expected: OUTSTANDING })]);
    const file = { ...certifiedFile(poll, BEFORE), certified: false, certificate: undefined, listVersion: 1 };
    await Promise.all([page, desk].map((page) => stubStanding(page, () => file)));
    const error = { code: "votesOutstanding", message: "Votes may be outstanding." };
    await desk.route("**/certify", (route) => route.fulfill({ status: 409, json: { error } }));
    await Promise.all([page.goto(viewer(poll)), openControlRoom(desk, poll)]);
    await shows(page.locator(".below"), "still being counted. Then this result is certified.");
    await desk.locator("#certify").click();
    await desk.locator("#confirm-yes").click();
    await shows(desk.locator("#confirm-text"), "Votes may be outstanding");
    await checkScreen(desk, "control-certify");
  });

  for (const [name, counts, said] of [
    ["a tie", [3, 3, 1], "Certified result: Ada and Bruno share the first place."],
    ["no votes", [0, 0, 0], "Certified result: there are no votes, so nobody is first."],
    ["one winner", [3, 1, 1], "Certified result: Ada is first."],
  ]) {
    test(`a screen reader announces ${name}`, async (t) => {
      const poll = await closedPoll();
      const page = await newPage(t);
      await stubStanding(page, () => certifiedFile(poll, EQUAL, counts));
      await page.goto(viewer(poll));
      await shows(page.locator(".poll .state"), "Certified result");
      await shows(page.locator("#moves"), said);
    });
  }

  test("a certified result is shown before its recount, and requested slowly until the digest is there", async (t) => {
    const poll = await closedPoll();
    await waitForList(poll);
    const page = await newPage(t);
    const askedAt = [];
    await page.clock.install();
    await stubStanding(page, async () => {
      askedAt.push(await page.evaluate(() => performance.now()));
      return certifiedFile(poll, askedAt.length < 3 ? BEFORE : EQUAL);
    });
    await page.goto(viewer(poll));
    await shows(page.locator(".poll .state"), "Certified result");
    const certificate = page.locator(".certificate");
    await shows(certificate.locator("summary"), "when no more votes were outstanding");
    await certificate.locator("summary").click();
    await shows(certificate, SAID.before);
    assert.doesNotMatch(await certificate.textContent(), /SHA-256|undefined/);
    await shows(page.locator(".total"), "about 4 voters (±0.8%)");
    await checkScreen(page, "viewer-recount");

    await until("the digest is shown", async () => {
      await page.clock.runFor(1000);
      return (await certificate.locator("code").textContent()) === GROUPS;
    });
    await shows(page.locator(".total"), /· 4 voters$/);
    assert.doesNotMatch(await certificate.textContent(), /recounted/);
    const gaps = askedAt.slice(1).map((at, i) => at - askedAt[i]);
    assert.ok(gaps.every((gap) => gap >= RECOUNT_MS_MIN), `requested after ${gaps} ms`);
    // The list is requested every 3 to 15 s.
    let polled = 0;
    page.on("response", (response) => (polled += response.url().endsWith("/results/polls.json")));
    await until("half a minute has passed", async () => {
      await page.clock.runFor(1000);
      return polled >= 4;
    });
    assert.equal(askedAt.length, 3, "a complete file is requested again");
  });

  test("a recount that differs is told to viewers and crew", async (t) => {
    const poll = await closedPoll();
    const [page, desk] = await Promise.all([newPage(t), newPage(t, DESK)]);
    await Promise.all([page, desk].map((page) => stubStanding(page, () => certifiedFile(poll, DIFFERENT))));
    await Promise.all([page.goto(viewer(poll)), openControlRoom(desk, poll)]);
    await shows(page.locator(".below > p"), SAID.different);
    await page.locator(".certificate summary").click();
    await shows(page.locator(".certificate code"), GROUPS);
    await shows(desk.locator("#certificate.wrong"), `5 votes. ${SAID.different} the certified result. Check the books. 4 voters. SHA-256`);
    await Promise.all([checkScreen(page, "viewer-recount-differs"), checkScreen(desk, "control-recount-differs")]);
  });

  test("the desk shows a certified result at once, and voters and digest when they are there", async (t) => {
    const poll = await closedPoll();
    const desk = await newPage(t, DESK);
    let certificate = BEFORE;
    await stubStanding(desk, () => certifiedFile(poll, certificate));
    await openControlRoom(desk, poll);
    await shows(desk.locator("#desk .state"), "Certified result");
    const told = desk.locator("#certificate");
    await shows(told, `: 5 votes. ${SAID.before}`);
    certificate = EQUAL;
    await shows(told, `: 5 votes. 4 voters. SHA-256 ${DIGEST}`);
  });

  test("a poll that hides its standing shows its turnout alone", async (t) => {
    const poll = await makePoll({ opensAt: inSeconds(0), results: "hidden" });
    await castVote(poll.id, 1, "rui");
    await waitForFile(poll, 1);
    const page = await newPage(t);
    await page.goto(viewer(poll));
    await shows(page.locator(".withheld"), "keeps its standing to itself");
    await shows(page.locator(".total"), /1 vote, .* about 1 voter /);
    assert.equal(await page.locator(".row").count(), 0);
  });
});
