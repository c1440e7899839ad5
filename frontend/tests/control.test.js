// The crew, alone and with viewers.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BASE, card, castVote, checkAccess, crew, enterRoom, giveName, makePoll, screen, shows, sideBySide, somebody, until, viewer,
} from "./support.js";

const DESK = { viewport: { width: 1280, height: 900 } };
const plot = (page, name) => page.locator(".plot").filter({ has: page.getByRole("heading", { name, exact: true }) });
const figure = (page, name) => plot(page, name).locator(".numeral");

async function checkEntry(page) {
  await page.goto(`${BASE}/control/`);
  await page.locator("#entry").waitFor();
  await screen(page, "control-signed-out");
}

async function vote(page, poll, number, name) {
  await page.goto(viewer(poll));
  await card(page, number).click();
  await giveName(page, name);
  await shows(card(page, number).locator(".mine"), "1 counted");
}

async function tabTo(page, selector) {
  const target = page.locator(selector).first();
  for (let i = 0; i < 60; i++) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`${selector} cannot be reached with the Tab key`);
}

/** Makes a poll by keyboard, beginning at the button for it; gives its title. */
async function typePoll(page) {
  await page.keyboard.press("Enter");
  const title = `By keyboard ${Date.now()}`;
  await page.keyboard.type(title);
  await tabTo(page, "[name=name]");
  await page.keyboard.type("Ada");
  await tabTo(page, ".person:nth-child(2) [name=name]");
  await page.keyboard.type("Grace");
  await page.keyboard.press("Enter");
  await shows(page.locator("#desk h2"), title);
  return title;
}

sideBySide("the control room", () => {
  test("two viewers and the crew at once", async (t) => {
    const poll = await makePoll();
    const [first, second, desk] = await Promise.all([somebody(t), somebody(t), somebody(t, DESK)]);
    await checkEntry(desk);
    await enterRoom(desk, poll);
    await Promise.all([
      vote(first, poll, 1, "nora"),
      vote(second, poll, 2, "otto"),
    ]);
    await shows(figure(desk, "Votes counted"), "2");
    await shows(figure(desk, "Ranking lag"), "0");
    await shows(figure(desk, "Queue"), /^\d+$/);
    await desk.locator("#audit").click();
    await shows(desk.locator("#verdict"), "2 votes: ledger, tally and ranking agree.");
    await screen(desk, "control");
  });

  test("a close under load: everyone counts down, and every vote is counted or refused", async (t) => {
    const poll = await makePoll();
    const [watcher, desk] = await Promise.all([somebody(t), somebody(t, DESK)]);
    await watcher.goto(viewer(poll));
    await enterRoom(desk, poll);
    let accepted = 0;
    let over = false;
    t.after(() => (over = true));
    const voters = Array.from({ length: 4 }, async (_, i) => {
      for (let n = 0; !over; n++) {
        const taken = await castVote(poll.id, (n % 4) + 1, `load-${i}`);
        accepted += taken;
        // As a crowd does, so that the edge has the bell before it rings.
        await fetch(`${BASE}/polls/${poll.id}`);
      }
    });
    await shows(watcher.locator(".row").first().locator(".votes"), /[1-9]/);
    await desk.locator("#close").click();
    await shows(desk.locator("#undo"), "closes in");
    await shows(watcher.locator(".bell"), /closes in\s*0:0\d/);
    await Promise.all([screen(desk, "control-closing"), screen(watcher, "viewer-closing")]);
    await shows(watcher.locator(".poll .state"), "Closed");
    await shows(desk.locator("#desk .state"), "Closed");
    assert.ok(await card(watcher, 1).isDisabled());
    await until("votes come too late", async () => {
      const live = await crew("GET", `/admin/polls/${poll.id}/live`);
      return live.rejected.afterClosing > 0;
    });
    over = true;
    await Promise.all(voters);
    await until("all are decided", async () => {
      const live = await crew("GET", `/admin/polls/${poll.id}/live`);
      return live.votes + live.rejected.afterClosing === accepted;
    });
    await desk.locator("#audit").click();
    await shows(desk.locator("#verdict"), "agree");
    await shows(plot(desk, "Not counted"), "after closing");
  });

  test("a bell can be taken back, and the keyboard is enough", async (t) => {
    const page = await somebody(t, DESK);
    await page.goto(`${BASE}/control/`);
    await page.locator("#sign-in").focus();
    await page.keyboard.press("Enter");
    await page.getByLabel("Name").press("Enter");
    await page.locator("#polls button").first().waitFor();
    await page.locator("#new-poll").focus();
    const first = await typePoll(page);
    await checkAccess(page, "control-draft");

    // Nothing destructive in one click: the dialog's first answer is no.
    await tabTo(page, "#delete");
    await page.keyboard.press("Enter");
    await shows(page.locator("#confirm"), "deleted for good");
    await screen(page, "control-confirm");
    await page.keyboard.press("Enter");
    await page.locator("#confirm").waitFor({ state: "hidden" });
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await until("it is gone", async () => !(await crew("GET", "/admin/polls")).polls.some((poll) => poll.title === first));

    // The keyboard is at the button for a new one then.
    await shows(page.locator("#announcer"), "Deleted.");
    await typePoll(page);
    await tabTo(page, "#open");
    await page.keyboard.press("Enter");
    await shows(page.locator("#undo"), "opens in");
    assert.ok(await page.locator("#undo").evaluate((button) => button === document.activeElement), "Undo has the keyboard");
    await shows(page.locator("#desk .bell"), /opens in\s*0:\d\d/);
    await page.keyboard.press("Enter");
    await page.locator("#undo").waitFor({ state: "hidden" });
    await shows(page.locator("#desk .bell"), "not scheduled");
    await page.keyboard.press("Enter");
    await shows(page.locator("#desk .state"), "Open");
    await page.locator("#close").waitFor();
    assert.ok(await page.locator("#delete").isHidden(), "what was open is not deleted");
  });

  test("a change saves what was changed, and says what is wrong", async (t) => {
    const poll = await makePoll({ opensAt: null });
    const page = await somebody(t, { ...DESK, expected: /422/ });
    await enterRoom(page, poll);
    await page.getByLabel("Question").fill("Who stays?");
    const sent = page.waitForRequest((request) => request.method() === "PATCH");
    await page.getByRole("button", { name: "Save" }).click();
    assert.deepEqual((await sent).postDataJSON(), { title: "Who stays?" });
    await shows(page.locator("#desk h2"), "Who stays?");
    await page.locator(".person [name=number]").nth(1).fill("1");
    await page.getByRole("button", { name: "Save" }).click();
    await shows(page.locator("#poll-form .problem"), "Contestant in row 2: 1 is already taken");
    const blamed = page.locator(".person [name=number]").nth(1);
    assert.ok(await blamed.evaluate((input) => input === document.activeElement), "the keyboard is where the problem is");
    await screen(page, "control-problem");
  });

  test("who is not of the crew is told", async (t) => {
    const page = await somebody(t, { ...DESK, expected: /403/ });
    await page.goto(`${BASE}/control/`);
    await page.route("**/config.json", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), crewScope: "openid" } });
    });
    await page.reload();
    await page.locator("#sign-in").click();
    await giveName(page, "viewer");
    await shows(page.locator("#notice"), "lacks the scope admin");
  });

  for (const [name, options] of [
    ["320", { viewport: { width: 320, height: 640 } }],
    ["4k", { viewport: { width: 3840, height: 2160 } }],
    ["dark", { ...DESK, colorScheme: "dark" }],
  ]) {
    test(`the room fits: ${name}`, async (t) => {
      const poll = await makePoll();
      const page = await somebody(t, options);
      await enterRoom(page, poll);
      await figure(page, "Votes counted").filter({ hasText: "0" }).waitFor();
      const [inner, scroll] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
      assert.ok(scroll <= inner, `${scroll} px of content in ${inner}`);
      await screen(page, `control-${name}`);
    });
  }
});
