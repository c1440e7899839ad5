// The control room around the form: drafts, polls by number, withdrawal and archive, and alarms.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BASE, castVote, crew, openControlRoom, waitForFile, signInAs, inSeconds, makePoll, TIMEOUT_MS, checkScreen, shows, describeConcurrently, newPage, until,
} from "./support.js";

const DESK = { viewport: { width: 1280, height: 900 } };

const definition = (poll) => crew("GET", `/admin/polls/${poll.id}`);
const isPublic = async (poll) => (await fetch(`${BASE}/polls/${poll.id}`)).ok;

async function confirm(page, selector) {
  await page.locator(selector).click();
  await page.locator("#confirm-yes").click();
}

/** Applies `changes` to the live figures that a page receives. */
function stubLive(page, poll, changes) {
  return page.route(`**/admin/polls/${poll.id}/live`, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), ...changes() } });
  });
}

/** Creates a poll with a certified result. */
async function certifiedPoll() {
  const poll = await makePoll({ opensAt: inSeconds(-7200) });
  await crew("POST", `/admin/polls/${poll.id}/close`);
  await crew("POST", `/admin/polls/${poll.id}/certify`, { force: true });
  await waitForFile(poll, 0, true);
  return poll;
}

describeConcurrently("the crew's room", () => {
  test("a new poll is a draft; the desk says so, and publishes it", async (t) => {
    const page = await newPage(t, { ...DESK, timezoneId: "UTC" });
    const other = await makePoll();
    await openControlRoom(page, other);
    await page.locator("#new-poll").click();
    const title = `Not yet ${Date.now()}`;
    await page.getByLabel("Question").fill(title);
    const opensAt = new Date(Date.now() + 3_600_000);
    opensAt.setUTCSeconds(0, 0);
    await page.getByLabel("Opens").fill(opensAt.toISOString().slice(0, 16));
    await page.locator(".contestant [name=name]").first().fill("Ada");
    await page.locator(".contestant [name=name]").last().fill("Grace");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await shows(page.locator("#desk .state"), /^Draft: public and open at .*\d\d?:\d\d/);
    await shows(page.locator("#desk h2"), title);
    const id = Number(new URL(page.url()).hash.slice(1));
    await shows(page.locator("#polls button").filter({ hasText: title }), "Draft");
    assert.ok(!(await isPublic({ id })), "a draft is public");
    await checkScreen(page, "control-draft");

    await page.locator("#publish").click();
    await shows(page.locator("#confirm"), "cannot be taken back");
    await page.locator("#confirm-yes").click();
    await shows(page.locator("#desk .state"), "Not open yet");
    assert.ok(await page.locator("#publish").isHidden());
    await until("it is public", () => isPublic({ id }));
  });

  test("Open publishes a draft, so that everyone counts down", async (t) => {
    const poll = await makePoll({ opensAt: null, draft: true });
    const page = await newPage(t, DESK);
    await openControlRoom(page, poll);
    await shows(page.locator("#desk .state"), "Draft: public when it is published or opened");
    await page.locator("#open").click();
    await shows(page.locator("#undo"), "opens in");
    assert.equal((await definition(poll)).draft, false);
    await until("viewers count down", () => isPublic(poll));
    await shows(page.locator("#desk .state"), "Open");
  });

  test("Undo is not offered after a colleague's change", async (t) => {
    const poll = await makePoll({ closesAt: inSeconds(3600) });
    const page = await newPage(t, DESK);
    await openControlRoom(page, poll);
    await page.locator("#close").click();
    await shows(page.locator("#undo"), "closes in");
    // Undo would revert the colleague's change as well.
    const theirs = "2031-01-01T20:15:00Z";
    await crew("PATCH", `/admin/polls/${poll.id}`, { closesAt: theirs });
    await shows(page.locator("#desk .timer"), "2031");
    assert.ok(await page.locator("#undo").isHidden(), "Undo would revert it");
    assert.equal((await definition(poll)).closesAt, theirs);
  });

  test("Close never postpones a close", async (t) => {
    const closesAt = inSeconds(25);
    const poll = await makePoll({ closesAt });
    const page = await newPage(t, DESK);
    await openControlRoom(page, poll);
    await shows(page.locator("#desk .timer"), /closes in\s*0:0\d/);
    await page.locator("#close").click();
    await shows(page.locator("#announcer"), "It closes within 10 seconds anyway.");
    assert.equal(Date.parse((await definition(poll)).closesAt), Date.parse(closesAt));
    await shows(page.locator("#desk .state"), "Closed");
  });

  test("an open poll that no list holds is reached by its number, and closed", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { ...DESK, expected: /404/ });
    const newer = await makePoll({ opensAt: null });
    // As if it were behind a hundred newer ones.
    await page.route(/\/admin\/polls$/, async (route) => {
      if (route.request().method() !== "GET") return route.continue();
      const response = await route.fetch();
      const without = (polls = []) => polls.filter(({ id }) => id !== poll.id);
      const { current, polls } = await response.json();
      await route.fulfill({ response, json: { current: without(current), polls: without(polls) } });
    });
    await openControlRoom(page, newer);
    await page.getByLabel("Poll number").fill("2000000000");
    await page.getByRole("button", { name: "Show", exact: true }).click();
    await shows(page.locator("#number-problem"), "There is no poll 2000000000.");
    await page.getByLabel("Poll number").fill(String(poll.id));
    await page.keyboard.press("Enter");
    await shows(page.locator("#desk h2"), `${poll.id} · `);
    await page.locator("#close").click();
    await shows(page.locator("#desk .state"), "Closed");
    // Its address works, too.
    await page.goto(`${BASE}/control/#${poll.id}`);
    await page.reload();
    await page.locator("#sign-in").click();
    await signInAs(page, "crew");
    await shows(page.locator("#desk h2"), `${poll.id} · `);
  });

  test("current polls come first in the list, and a button loads older ones", async (t) => {
    const [open, newer] = [await makePoll(), await makePoll({ opensAt: null })];
    const page = await newPage(t, DESK);
    const older = Array.from({ length: 3 }, (_, i) => ({ ...newer, id: newer.id + 1000 - i, title: `Older ${i}` }));
    await page.route(/\/admin\/polls(\?before=\d+)?$/, async (route) => {
      if (route.request().method() !== "GET") return route.continue();
      const first = !route.request().url().includes("before");
      const many = Array.from({ length: 100 }, (_, i) => ({ ...newer, id: newer.id + 2000 - i }));
      await route.fulfill({ json: first ? { current: [open], polls: many } : { current: [open], polls: older } });
    });
    await page.goto(`${BASE}/control/`);
    await page.locator("#sign-in").click();
    await signInAs(page, "crew");
    await shows(page.locator("#polls button").first(), String(open.id));
    await shows(page.locator("#current"), "Open");
    await page.locator("#more-polls").click();
    await shows(page.locator("#all"), "Older 2");
    assert.equal(await page.locator("#all li").count(), 103);
    const isInView = (selector) => page.locator(selector).evaluate((element) => {
      const { top, bottom } = element.getBoundingClientRect();
      return top >= 0 && bottom <= innerHeight;
    });
    assert.ok(await isInView("#desk .state"), "a long list hides the desk");
    assert.ok(await page.locator("#more-polls").isHidden(), "that was the last page");
    await shows(page.locator("#desk h2"), `${open.id} · `);
  });

  test("a contestant is withdrawn after a question, and not removed, once the poll is open", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, DESK);
    await openControlRoom(page, poll);
    assert.equal(await page.locator(".contestant .remove:visible").count(), 0);
    assert.ok(await page.locator("#delete").isHidden(), "an open poll is not deleted");
    await page.getByRole("button", { name: "Withdraw Bruno" }).click();
    await shows(page.locator("#confirm"), "Bruno, number 2, is withdrawn.");
    await page.locator("#confirm-no").click();
    assert.ok(!(await definition(poll)).contestants[1].withdrawnAt);
    await page.getByRole("button", { name: "Withdraw Bruno" }).click();
    await page.locator("#confirm-yes").click();
    await shows(page.locator(".contestant").nth(1), /withdrawn \d/);
    assert.ok((await definition(poll)).contestants[1].withdrawnAt);
    await castVote(poll.id, 2, "late-for-bruno");
    await shows(page.locator(".plot").filter({ hasText: "Not counted" }), "withdrawn 1");
    await checkScreen(page, "control-withdrawn");
  });

  test("a closed poll is archived; reopening one keeps the gap", async (t) => {
    const poll = await makePoll();
    await crew("POST", `/admin/polls/${poll.id}/close`);
    const page = await newPage(t, DESK);
    await openControlRoom(page, poll);
    await shows(page.locator("#open"), "Reopen");
    await confirm(page, "#open");
    await shows(page.locator("#undo"), "close again");
    await shows(page.locator(".gaps"), "Votes cast between a close and a reopening do not count");
    await page.locator("#undo").click();
    await shows(page.locator("#desk .state"), "Closed");
    await confirm(page, "#archive");
    await shows(page.locator("#desk .state"), "Closed, archived");
    assert.ok(await page.locator("#archive").isHidden());
    assert.ok((await definition(poll)).archivedAt);
  });

  test("counting has stopped: the desk shows the waiting votes, and why certification waits", async (t) => {
    const poll = await makePoll({ opensAt: inSeconds(-600) });
    await crew("POST", `/admin/polls/${poll.id}/close`);
    const page = await newPage(t, { ...DESK, timezoneId: "UTC" });
    const since = inSeconds(-60);
    let figures = { counting: { state: "stopped", waiting: 50, since } };
    const certification = { waitsFor: "counting", sign: null, until: null, message: "Nothing is counting." };
    await stubLive(page, poll, () => ({ certification, ...figures }));
    await openControlRoom(page, poll);
    const alarm = page.getByRole("alert").filter({ hasText: "waits? and nothing is counting" });
    await shows(page.locator("#counting"), "50 votes wait and nothing is counting them. Nothing was counted since");
    await shows(page.locator("#waits"), "Not certified yet. Nothing is counting votes.");
    assert.equal(await page.locator("#counting").getAttribute("role"), "alert");
    await checkScreen(page, "control-stopped");
    figures = { counting: { state: "stopped", waiting: null, since: null } };
    await shows(page.locator("#counting"), /^Nothing is counting votes\.$/);
    figures = {
      counting: { state: "moving", waiting: 3, since: null },
      certification: { waitsFor: "sign", sign: "redelivered", until: inSeconds(100), message: "A batch came again." },
    };
    await shows(page.locator("#waits"), /Votes were delivered a second time.* If nothing else happens, until \d/);
    await page.locator("#counting").waitFor({ state: "hidden" });
    figures = { counting: { state: "unknown" }, certification: { waitsFor: "comet", sign: null, until: null, message: "A comet." } };
    await shows(page.locator("#waits"), /^Not certified yet\. A comet\.$/);
    assert.equal(await alarm.count(), 0);
  });

  test("late votes: the desk shows them, and issues another certificate", { timeout: 3 * TIMEOUT_MS }, async (t) => {
    const poll = await certifiedPoll();
    const page = await newPage(t, DESK);
    const document = { poll: poll.id, number: 2, late: { votes: 3 } };
    await page.route(`**/results/${poll.id}.json`, async (route) => {
      const response = await route.fetch();
      if (!response.ok()) return route.fulfill({ response });
      const late = { votes: 3, firstAt: inSeconds(-60), lastAt: inSeconds(-30) };
      await route.fulfill({ response, json: { ...(await response.json()), late } });
    });
    const requests = [];
    await page.route(`**/admin/polls/${poll.id}/certify`, async (route) => {
      requests.push(route.request().postDataJSON());
      await route.fulfill({ status: 201, json: document });
    });
    await openControlRoom(page, poll);
    await shows(page.locator("#late"), /3 votes cast in time came after the certification.*They came from .* to /);
    await page.locator("#certify-late").click();
    await shows(page.locator("#confirm"), "The first certificate stays as it is");
    await page.locator("#confirm-yes").click();
    await shows(page.locator("#later-certificates a"), "Certificate 2");
    assert.equal(await page.locator("#later-certificates a").getAttribute("href"), `/results/${poll.id}.certificate-2.json`);
    assert.ok(await page.locator("#certify-late").isHidden(), "it includes them all");
    assert.deepEqual(requests, [{ includeLate: true }]);
    await checkScreen(page, "control-late");
  });
});
