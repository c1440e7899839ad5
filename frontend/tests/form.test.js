// The form of a poll: the sent fields, clock changes, and edit conflicts.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BASE, castVote, crew, openControlRoom, waitForFile, inSeconds, makePoll, TIMEOUT_MS, checkScreen, shows, describeConcurrently, newPage,
  until,
} from "./support.js";

const DESK = { viewport: { width: 1280, height: 900 } };
const BERLIN = { ...DESK, timezoneId: "Europe/Berlin" };
/** Clocks go back at 03:00 that night: 02:30 is both 00:30 and 01:30 UTC. */
const [FIRST, SECOND] = ["2027-10-31T00:30:00.000Z", "2027-10-31T01:30:00.000Z"];

const definition = (poll) => crew("GET", `/admin/polls/${poll.id}`);
const title = (page) => page.getByLabel("Question");
const opens = (page) => page.getByLabel("Opens");
const closes = (page) => page.getByLabel("Closes");

/** Returns a file of `/results/`; null while there is none. */
async function published(name) {
  const response = await fetch(`${BASE}/results/${name}.json`);
  return response.ok ? response.json() : null;
}

/** Returns a whole minute, two to three minutes ahead. */
const wholeMinute = () => new Date(Math.ceil(Date.now() / 60_000 + 2) * 60_000).toISOString();

/** Clicks Save, and returns the sent body. */
async function save(page) {
  const sent = page.waitForRequest((request) => request.method() === "PATCH");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  const request = await sent;
  assert.ok((await request.response()).ok(), "it was refused");
  return request.postDataJSON();
}

describeConcurrently("the crew's form", () => {
  for (const [name, closesAt] of [
    ["a whole minute", wholeMinute()],
    ["milliseconds", wholeMinute().replace(".000Z", ".400Z")],
    ["no close", null],
  ]) {
    test(`Close is pressed, then a field is saved: it stays closed (${name})`, async (t) => {
      const poll = await makePoll({ closesAt });
      const page = await newPage(t, DESK);
      await openControlRoom(page, poll);
      await page.locator("#close").click();
      await shows(page.locator("#undo"), "closes in");
      const closing = (await definition(poll)).closesAt;
      assert.notEqual(closing, closesAt);
      await title(page).fill("Who stays?");
      assert.deepEqual(await save(page), { title: "Who stays?" });
      assert.equal((await definition(poll)).closesAt, closing, "the save moved the close");
      await shows(page.locator("#desk .state"), "Closed");
      await title(page).fill("Who goes?");
      assert.deepEqual(await save(page), { title: "Who goes?" });
      await shows(page.locator("#desk .state"), "Closed");
    });
  }

  test("the pace of the viewers' pages is set while the poll is open, and the desk says what it costs", async (t) => {
    const poll = await makePoll({ pace: "auto" });
    const page = await newPage(t, DESK);
    await openControlRoom(page, poll);
    const pace = page.locator("form [name=pace]");
    assert.equal(await pace.inputValue(), "auto");
    const texts = await pace.locator("option").allTextContents();
    assert.deepEqual(texts.map((text) => /(Automatic|Every \d+ s).* about [\d,]+ USD an hour$/.exec(text)?.[1]), [
      "Automatic", "Every 3 s", "Every 5 s", "Every 10 s",
    ]);
    await pace.selectOption("5");
    assert.deepEqual(await save(page), { pace: 5 });
    assert.equal((await definition(poll)).pace, 5);
    await until("the file says so", async () => {
      return (await published(poll.id))?.nextInSeconds === 5;
    });
    await page.locator("#journal summary").click();
    await shows(page.locator("#journal-entries"), /Pace: Automatic.* → Every 5 s/);
  });

  test("taps in a vote are set in a poll without a limit, and the desk shows how many a vote has", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { ...DESK, expected: /409/ });
    await openControlRoom(page, poll);
    const taps = page.getByLabel("Taps in a vote");
    assert.equal(await taps.inputValue(), "1");
    await taps.fill("50");
    await checkScreen(page, "control-taps");
    assert.deepEqual(await save(page), { tapsMax: 50 });
    await until("file and list say so", async () => {
      const listed = (await published("polls"))?.polls.find(({ id }) => id === poll.id);
      return listed?.tapsMax === 50 && (await published(poll.id))?.tapsMax === 50;
    });
    await castVote(poll.id, 1, "tapper", { count: 6 });
    await castVote(poll.id, 1, "tapper");
    await shows(page.locator(".plots"), "3.5 taps a vote sent");
    await taps.fill("2");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await shows(page.locator("#poll-form .problem"), "it can be raised but not lowered");
    await page.locator("#journal summary").click();
    await shows(page.locator("#journal-entries"), "Taps in a vote: 1 → 50");
  });

  test("a poll that gets a limit loses its taps in a vote", async (t) => {
    const poll = await makePoll({ opensAt: null, tapsMax: 20 });
    const page = await newPage(t, DESK);
    await openControlRoom(page, poll);
    const taps = page.getByLabel("Taps in a vote");
    assert.equal(await taps.inputValue(), "20");
    await page.getByLabel("Votes per voter").fill("3");
    assert.ok(await taps.isHidden());
    assert.deepEqual(await save(page), { votesPerVoter: 3, tapsMax: 1 });
    await page.getByLabel("Votes per voter").fill("");
    assert.equal(await taps.inputValue(), "1");
  });

  test("a colleague has moved the close: saving another field leaves it there, and the form follows", async (t) => {
    const poll = await makePoll({ closesAt: wholeMinute() });
    const page = await newPage(t, { ...DESK, timezoneId: "UTC" });
    await openControlRoom(page, poll);
    await title(page).fill("Who stays?");
    const moved = "2031-01-01T20:15:00Z";
    await crew("PATCH", `/admin/polls/${poll.id}`, { closesAt: moved });
    await until("the form shows it", async () => (await closes(page).inputValue()).startsWith("2031-01-01T20:15"));
    assert.deepEqual(await save(page), { title: "Who stays?" });
    assert.equal((await definition(poll)).closesAt, moved);
  });

  test("a night on which clocks go back: untouched times stay, and the chosen hour is sent", async (t) => {
    const poll = await makePoll({ opensAt: FIRST, closesAt: SECOND, draft: false });
    const page = await newPage(t, BERLIN);
    await openControlRoom(page, poll);
    const which = page.getByLabel("Clocks are set back in that hour");
    assert.deepEqual(await which.locator("option:checked").allTextContents(), ["02:30 CEST", "02:30 CET"]);
    await title(page).fill("Who stays?");
    assert.deepEqual(await save(page), { title: "Who stays?" });

    // The second occurrence stays the second.
    await closes(page).fill("2027-10-31T02:45");
    assert.deepEqual(await save(page), { closesAt: "2027-10-31T01:45:00.000Z" });
    // The other occurrence can be chosen.
    await opens(page).fill("2027-10-31T02:10");
    await which.first().selectOption("02:10 CET");
    assert.deepEqual(await save(page), { opensAt: "2027-10-31T01:10:00.000Z" });

    // From another night the occurrence is unknown: the form asks for it, and sends nothing before.
    await closes(page).fill("2027-11-01T20:00");
    assert.deepEqual(await save(page), { closesAt: "2027-11-01T19:00:00.000Z" });
    await closes(page).fill("2027-10-31T02:50");
    let sent = 0;
    page.on("request", (request) => (sent += request.method() === "PATCH"));
    await page.getByRole("button", { name: "Save", exact: true }).click();
    assert.ok(await which.last().evaluate((select) => select === document.activeElement), "the question has the focus");
    await checkScreen(page, "control-clocks");
    await closes(page).fill("2027-03-28T02:30");
    assert.match(await closes(page).evaluate((input) => input.validationMessage), /Clocks are set forward/);
    assert.equal(sent, 0);
    await closes(page).fill("2027-10-31T02:50");
    await which.last().selectOption("02:50 CET");
    assert.deepEqual(await save(page), { closesAt: "2027-10-31T01:50:00.000Z" });
  });

  test("until the selected poll is there, the form takes no input, which would be lost", async (t) => {
    const [first, second] = await Promise.all([makePoll({ opensAt: null }), makePoll({ opensAt: null, title: "Who stays?" })]);
    const page = await newPage(t, { ...DESK, expected: /ERR_FAILED/ });
    await openControlRoom(page, first);
    let answer;
    const held = new Promise((resolve) => (answer = resolve));
    await page.route(`**/admin/polls/${second.id}`, async (route) => ((await held) === "fail" ? route.abort() : route.continue()));
    const select = async () => {
      await page.getByLabel("Poll number").fill(String(second.id));
      await page.getByRole("button", { name: "Show", exact: true }).click();
    };
    await select();
    await until("the form takes no input", async () => !(await title(page).isEditable()));
    assert.ok(await page.getByRole("button", { name: "Save", exact: true }).isDisabled());
    answer("fail");
    await until("the shown poll stays, and can be edited", async () => title(page).isEditable());
    assert.equal(await title(page).inputValue(), first.title);

    await page.unroute(`**/admin/polls/${second.id}`);
    await select();
    await until("the selected poll can be edited", async () => (await title(page).inputValue()) === second.title && title(page).isEditable());
  });

  test("two crew members save: both versions are shown, and nothing typed is lost", async (t) => {
    const poll = await makePoll({ opensAt: null, draft: true });
    const [ana, rui] = await Promise.all([newPage(t, DESK), newPage(t, { ...DESK, expected: /412/ })]);
    await Promise.all([openControlRoom(ana, poll, "ana"), openControlRoom(rui, poll, "rui")]);
    // Both have the form open; the second begins to type.
    await title(rui).fill("Who goes on?");
    await rui.locator(".contestant [name=name]").nth(1).fill("Bruna");
    await rui.getByRole("button", { name: "Add contestant" }).click();
    await rui.locator(".contestant [name=name]").last().fill("Fred");

    await title(ana).fill("Who stays?");
    await ana.getByRole("button", { name: "Add contestant" }).click();
    await ana.locator(".contestant [name=name]").last().fill("Eva");
    await save(ana);
    await shows(rui.locator(".held"), "Somebody has changed what you are changing");

    await rui.getByRole("button", { name: "Save", exact: true }).click();
    const conflict = rui.locator(".conflict");
    await shows(conflict, /ana saved at/);
    const row = (key) => conflict.locator(`[data-key="${key}"]`);
    await shows(row("title"), /Saved now\s*Who stays\?\s*Yours\s*Who goes on\?/);
    await shows(row("contestant.5"), /5 · Eva/);
    await shows(row("contestant.2"), /2 · Bruno.*2 · Bruna/s);
    await checkScreen(rui, "control-conflict");
    assert.equal(await row("title").locator("input:checked").count(), 0, "a title is lost by default");

    // Back in the form, all input is still there; a second save shows the same conflict.
    await rui.locator("#conflict-back").click();
    assert.equal(await title(rui).inputValue(), "Who goes on?");
    assert.equal(await rui.locator(".contestant [name=name]").last().inputValue(), "Fred");
    await rui.getByRole("button", { name: "Save", exact: true }).click();
    await row("title").getByLabel("Yours").check();
    await rui.locator("#conflict-save").click();
    await until("both are saved", async () => {
      const { title, contestants } = await definition(poll);
      return title === "Who goes on?" && contestants.map(({ name }) => name).join() === "Ada,Bruna,Carmen,Dario,Eva,Fred";
    });
    await shows(ana.locator("#desk h2"), "Who goes on?");
    await until("the first one's form has it, too", async () => (await title(ana).inputValue()) === "Who goes on?");

    await rui.locator("#journal summary").click();
    await shows(rui.locator("#journal-entries > li").first(), /rui · changed.*Contestant 2: 2 · Bruno → 2 · Bruna/s);
    await shows(rui.locator("#journal-entries > li").nth(1), /ana · changed.*Question: Who goes to the final\? → Who stays\?/s);
    await checkScreen(rui, "control-journal");
  });

  test("if all of a colleague's changes are chosen, nothing is sent", async (t) => {
    const poll = await makePoll({ opensAt: null });
    const page = await newPage(t, { ...DESK, expected: /412/ });
    await openControlRoom(page, poll);
    await title(page).fill("Mine");
    await crew("PATCH", `/admin/polls/${poll.id}`, { title: "Theirs", results: "hidden" });
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.locator('[data-key="title"]').getByLabel("Saved now").check();
    let sent = 0;
    page.on("request", (request) => (sent += request.method() === "PATCH"));
    await page.locator("#conflict-save").click();
    await until("theirs is in the form", async () => (await title(page).inputValue()) === "Theirs");
    assert.equal(await page.getByLabel("Standing").inputValue(), "hidden");
    assert.equal(sent, 0);
  });

  test("deleting a poll that was changed meanwhile is refused, with the name of the editor", async (t) => {
    const poll = await makePoll({ opensAt: null });
    const page = await newPage(t, { ...DESK, expected: /412/ });
    await openControlRoom(page, poll);
    await page.locator("#delete").waitFor();
    // The page does not see the change.
    let isStale = true;
    await page.route(`**/admin/polls/${poll.id}`, async (route) => {
      if (!isStale || route.request().method() !== "GET") return route.continue();
      const headers = { etag: '"1"' };
      return route.fulfill({ json: poll, headers });
    });
    await crew("PATCH", `/admin/polls/${poll.id}`, { title: "Changed" });
    await page.locator("#delete").click();
    await page.locator("#confirm-yes").click();
    await shows(page.locator("#desk > .problem"), /test-crew changed this poll at .* Look at it again/);
    assert.equal((await definition(poll)).title, "Changed");
    // Once the page has seen the change, the poll can be deleted.
    isStale = false;
    await shows(page.locator("#desk h2"), "Changed");
    await page.locator("#delete").click();
    await page.locator("#confirm-yes").click();
    await until("it is gone", async () => !(await crew("GET", "/admin/polls")).polls.some(({ id }) => id === poll.id));
  });

  test("a certified poll is read-only, and says so; an erratum is added beside it", { timeout: 3 * TIMEOUT_MS }, async (t) => {
    const poll = await makePoll({ opensAt: inSeconds(-7200), title: "Who won?" });
    await crew("POST", `/admin/polls/${poll.id}/close`);
    await crew("POST", `/admin/polls/${poll.id}/certify`, { force: true });
    await waitForFile(poll, 0, true);
    const page = await newPage(t, DESK);
    await openControlRoom(page, poll);
    await shows(page.locator("#desk .state"), "Certified result");
    await shows(page.locator("#poll-form"), "Nothing in the definition can change any more");
    assert.ok(await page.locator("#poll-form .strong").isHidden(), "a certified poll can be saved");
    for (const input of await page.locator("#poll-form input").all()) assert.ok(!(await input.isEditable()), await input.evaluate((input) => input.outerHTML));
    assert.ok(await page.getByLabel("Standing").isDisabled());
    for (const button of await page.locator("#poll-form button, #delete, #open, #close").all()) assert.ok(await button.isHidden());

    await page.getByLabel("New erratum").fill("Ada's name is Ada Lovelace.");
    await page.locator("#add-erratum").click();
    await page.locator("#confirm-yes").click();
    await shows(page.locator("#errata li"), "Ada's name is Ada Lovelace.");
    await checkScreen(page, "control-final");
    await until("it is public", async () => (await definition(poll)).errata?.length === 1);
  });
});
