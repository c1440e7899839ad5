// The control room, alone and beside viewers.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BASE, card, castVote, checkAccess, crew, mine, openControlRoom, signInAs, makePoll, checkScreen, shows, describeConcurrently, newPage, until, viewer,
} from "./support.js";

const DESK = { viewport: { width: 1280, height: 900 } };
const plot = (page, name) => page.locator(".plot").filter({ has: page.getByRole("heading", { name, exact: true }) });
const figure = (page, name) => plot(page, name).locator(".numeral");

async function checkEntry(page) {
  await page.goto(`${BASE}/control/`);
  await page.locator("#entry").waitFor();
  await checkScreen(page, "control-signed-out");
}

async function vote(page, poll, number, name) {
  await page.goto(viewer(poll));
  await card(page, number).click();
  await signInAs(page, name);
  await shows(mine(page, number), "1 counted");
}

async function tabTo(page, selector) {
  const target = page.locator(selector).first();
  for (let i = 0; i < 60; i++) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`${selector} cannot be reached with the Tab key`);
}

/** Creates a poll by keyboard, from the focused button on; returns its title. */
async function typePoll(page) {
  await page.keyboard.press("Enter");
  const title = `By keyboard ${Date.now()}`;
  await page.keyboard.type(title);
  await tabTo(page, "[name=name]");
  await page.keyboard.type("Ada");
  await tabTo(page, ".contestant:nth-child(2) [name=name]");
  await page.keyboard.type("Grace");
  await page.keyboard.press("Enter");
  await shows(page.locator("#desk h2"), title);
  return title;
}

describeConcurrently("the control room", () => {
  test("two viewers and the crew at once", async (t) => {
    const poll = await makePoll();
    const [first, second, desk] = await Promise.all([newPage(t), newPage(t), newPage(t, DESK)]);
    await checkEntry(desk);
    await openControlRoom(desk, poll);
    await Promise.all([
      vote(first, poll, 1, "nora"),
      vote(second, poll, 2, "otto"),
    ]);
    await shows(figure(desk, "Votes counted"), "2");
    await shows(figure(desk, "Ranking lag"), "0");
    await shows(figure(desk, "Queue"), /^\d+$/);
    await desk.locator("#audit").click();
    await shows(desk.locator("#verdict"), "2 votes: ledger, tally and ranking agree.");
    await checkScreen(desk, "control");
  });

  test("a close under load: everyone counts down, and every vote is counted or refused", async (t) => {
    const poll = await makePoll();
    const [watcher, desk] = await Promise.all([newPage(t), newPage(t, DESK)]);
    await watcher.goto(viewer(poll));
    await openControlRoom(desk, poll);
    let accepted = 0;
    let over = false;
    t.after(() => (over = true));
    const voters = Array.from({ length: 4 }, async (_, i) => {
      for (let n = 0; !over; n++) {
        // The edge takes 120 votes a minute of one token.
        const taken = await castVote(poll.id, (n % 4) + 1, `load-${i}-${Math.floor(n / 100)}`);
        accepted += taken;
        // Refreshes the edge, so that viewers see the close in advance.
        await fetch(`${BASE}/polls/${poll.id}`);
      }
    });
    await shows(watcher.locator(".row").first().locator(".votes"), /[1-9]/);
    await desk.locator("#close").click();
    await shows(desk.locator("#undo"), "closes in");
    await shows(watcher.locator(".timer"), /closes in\s*0:0\d/);
    await Promise.all([checkScreen(desk, "control-closing"), checkScreen(watcher, "viewer-closing")]);
    await shows(watcher.locator(".poll .state"), "Closed");
    await shows(desk.locator("#desk .state"), "Closed");
    assert.ok(await card(watcher, 1).isDisabled());
    await until("a vote comes too late", async () => {
      const live = await crew("GET", `/admin/polls/${poll.id}/live`);
      return live.rejected.afterClosing > 0;
    });
    over = true;
    await Promise.all(voters);
    await until("all votes are decided", async () => {
      const live = await crew("GET", `/admin/polls/${poll.id}/live`);
      return live.votes + live.rejected.afterClosing === accepted;
    });
    await desk.locator("#audit").click();
    await shows(desk.locator("#verdict"), "agree");
    await shows(plot(desk, "Not counted"), "after closing");
  });

  test("an opening can be undone, and the keyboard is enough", async (t) => {
    const page = await newPage(t, DESK);
    await page.goto(`${BASE}/control/`);
    await page.locator("#sign-in").focus();
    await page.keyboard.press("Enter");
    await page.getByLabel("Name").press("Enter");
    await page.locator("#polls button").first().waitFor();
    await page.locator("#new-poll").focus();
    const first = await typePoll(page);
    await checkAccess(page, "control-draft");

    // The dialog's default answer is no.
    await tabTo(page, "#delete");
    await page.keyboard.press("Enter");
    await shows(page.locator("#confirm"), "deleted for good");
    await checkScreen(page, "control-confirm");
    await page.keyboard.press("Enter");
    await page.locator("#confirm").waitFor({ state: "hidden" });
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await until("it is gone", async () => !(await crew("GET", "/admin/polls")).polls.some((poll) => poll.title === first));

    // The focus is then on the button for a new poll.
    await shows(page.locator("#announcer"), "Deleted.");
    await typePoll(page);
    await tabTo(page, "#open");
    await page.keyboard.press("Enter");
    await shows(page.locator("#undo"), "opens in");
    assert.ok(await page.locator("#undo").evaluate((button) => button === document.activeElement), "Undo has the focus");
    await shows(page.locator("#desk .timer"), /opens in\s*0:\d\d/);
    await page.keyboard.press("Enter");
    await page.locator("#undo").waitFor({ state: "hidden" });
    await shows(page.locator("#desk .timer"), "not scheduled");
    await page.keyboard.press("Enter");
    await shows(page.locator("#desk .state"), "Open");
    await page.locator("#close").waitFor();
    assert.ok(await page.locator("#delete").isHidden(), "a poll that was open can be deleted");
  });

  test("a change sends the edited fields, and shows what is wrong", async (t) => {
    const poll = await makePoll({ opensAt: null });
    const page = await newPage(t, { ...DESK, expected: /422/ });
    await openControlRoom(page, poll);
    await page.getByLabel("Question").fill("Who stays?");
    const sent = page.waitForRequest((request) => request.method() === "PATCH");
    await page.getByRole("button", { name: "Save" }).click();
    assert.deepEqual((await sent).postDataJSON(), { title: "Who stays?" });
    await shows(page.locator("#desk h2"), "Who stays?");
    await page.locator(".contestant [name=number]").nth(1).fill("1");
    await page.getByRole("button", { name: "Save" }).click();
    await shows(page.locator("#poll-form .problem"), "Contestant in row 2: 1 is already taken");
    const invalid = page.locator(".contestant [name=number]").nth(1);
    assert.ok(await invalid.evaluate((input) => input === document.activeElement), "the invalid field has the focus");
    await checkScreen(page, "control-problem");
  });

  test("an account without the scope admin gets a message", async (t) => {
    const page = await newPage(t, { ...DESK, expected: /403/ });
    await page.goto(`${BASE}/control/`);
    await page.route("**/config.json", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), crewScope: "openid" } });
    });
    await page.reload();
    await page.locator("#sign-in").click();
    await signInAs(page, "viewer");
    await shows(page.locator("#notice"), "lacks the scope admin");
  });

  for (const [name, options] of [
    ["320", { viewport: { width: 320, height: 640 } }],
    ["4k", { viewport: { width: 3840, height: 2160 } }],
    ["dark", { ...DESK, colorScheme: "dark" }],
  ]) {
    test(`the room fits: ${name}`, async (t) => {
      const poll = await makePoll();
      const page = await newPage(t, options);
      await openControlRoom(page, poll);
      await figure(page, "Votes counted").filter({ hasText: "0" }).waitFor();
      const [inner, scroll] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
      assert.ok(scroll <= inner, `${scroll} px of content in ${inner}`);
      await checkScreen(page, `control-${name}`);
    });
  }
});
