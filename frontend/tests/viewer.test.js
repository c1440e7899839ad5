// The viewer's page, from the first tap to the counted vote.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  BASE, FILE, LIST, card, castVote, fakeFile, checkAccess, crew, signInAs, inSeconds, learns, makePoll, mine, notice,
  checkScreen, shows, describeConcurrently, newPage, until, viewer,
} from "./support.js";

const state = (page) => page.locator(".poll .state");
/** Less than a pace of 10 s, and more than one of 3 s with its spread. */
const SLOW_MS_MIN = 9_000;

/** A sample of a right-to-left language, since no shipped language is one. */
const ARABIC = {
  direction: "rtl",
  vote: "تصويت",
  signIn: "تسجيل الدخول",
  howItCounts: "يُرسَل الصوت أولاً ثم يُحتسَب بعد ثوانٍ. ما يظهر محتسَباً فهو في النتيجة.",
  "state.open": "مفتوح",
  "bell.closes": "يُغلَق بعد",
  standing: "الترتيب",
  total: "{n} أصوات، الساعة {when}",
};

/** Counts a page's requests for the voter's used ballots. */
function countMine(page) {
  const asked = { count: 0 };
  page.on("request", (request) => (asked.count += request.url().includes("/votes/mine") ? 1 : 0));
  return asked;
}

async function rightToLeft(route) {
  const response = await route.fetch();
  await route.fulfill({ response, json: { ...(await response.json()), ...ARABIC } });
}

describeConcurrently("a viewer", () => {
  test("one tap votes; the vote is seen counted, and the ranking moves", async (t) => {
    const poll = await makePoll();
    await castVote(poll.id, 1, "earlier");
    const page = await newPage(t);
    const asked = countMine(page);
    await page.goto(viewer(poll));
    const row = page.locator(".row");
    await shows(row.first(), "Ada");
    await shows(row.first().locator(".votes"), "1");
    await checkScreen(page, "viewer-signed-out");
    const before = await card(page, 3).boundingBox();
    await card(page, 3).click();
    await signInAs(page, "maria");
    await shows(mine(page, 3), "sent");
    assert.equal(asked.count, 0, "nobody has asked by hand");
    await shows(mine(page, 3), "1 counted");
    await card(page, 3).click();
    await shows(mine(page, 3), "2 counted");
    await shows(row.first(), "Carmen");
    await shows(row.first().locator(".votes"), /^2$/);
    await shows(page.locator("#moves"), "Carmen is now rank 1.");
    assert.deepEqual(await card(page, 3).boundingBox(), before, "a ballot that moves under a finger");
    await checkScreen(page, "viewer-counted");
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    assert.doesNotMatch(kept, /eyJ/, "a token outside memory");
  });

  test("the ballots run out", async (t) => {
    const poll = await makePoll({ votesPerVoter: 2 });
    const page = await newPage(t);
    const asked = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await page.goto(viewer(poll));
    await shows(page.locator(".tray"), "2 votes each");
    await card(page, 1).click();
    await signInAs(page, "ines");
    await shows(page.locator(".tray"), "1 of 2 votes left");
    await card(page, 2).click();
    await shows(page.locator(".tray"), "All your votes are used.");
    await card(page, 2).click();
    await shows(page.locator("#announcer"), "All your votes are used.");
    await shows(mine(page, 1), "1 counted");
    await shows(mine(page, 2), "1 counted");
    assert.ok(!asked.includes("/votes/mine"), "the page knows where its votes went");
    await checkScreen(page, "viewer-ballots-used");
    // The same voter has none left on another device either.
    const other = await newPage(t);
    await other.goto(viewer(poll));
    await card(other, 3).click();
    await signInAs(other, "ines");
    await shows(mine(other, 3), "1 not counted");
    await shows(other.locator(".tray"), "All your votes are used.");
  });

  test("a vote in a poll with a limit waits for no read, over reloads and tabs", async (t) => {
    const poll = await makePoll({ votesPerVoter: 4 });
    const page = await newPage(t);
    const asked = countMine(page.context());
    const ballots = [];
    page.context().on("request", (request) => {
      if (request.method() === "POST" && request.url().endsWith("/votes")) ballots.push(request.postDataJSON().ballot);
    });
    await page.goto(viewer(poll));
    await card(page, 1).click();
    await signInAs(page, "paula");
    await shows(mine(page, 1), "1 sent");
    await card(page, 2).click();
    await shows(mine(page, 2), "1 sent");
    // The device remembers the used ballots after a reload and a new sign-in.
    await page.goto(viewer(poll));
    await page.locator("#sign-in").click();
    await signInAs(page, "paula");
    await shows(page.locator(".tray"), "2 of 4 votes left");
    await card(page, 3).click();
    await shows(mine(page, 3), "1 sent");
    const tab = await page.context().newPage();
    await tab.goto(viewer(poll));
    await tab.locator("#sign-in").click();
    await signInAs(tab, "paula");
    await shows(tab.locator(".tray"), "1 of 4 votes left");
    await card(tab, 3).click();
    await shows(mine(tab, 3), "1 sent");
    await shows(page.locator(".tray"), "All your votes are used.");
    assert.deepEqual([ballots, asked.count], [[1, 2, 3, 4], 0]);
    // Another voter has ballots of their own.
    await page.goto(viewer(poll));
    await page.locator("#sign-in").click();
    await signInAs(page, "rosa");
    await shows(page.locator(".tray"), "4 votes each");
  });

  test("a refused vote leaves its ballot free, also after a reload", async (t) => {
    const poll = await makePoll({ votesPerVoter: 2 });
    const page = await newPage(t, { expected: /Failed to load resource/ });
    const enter = async () => {
      await page.goto(viewer(poll));
      await page.locator("#sign-in").click();
      await signInAs(page, "rita");
      await shows(page.locator("#who"), "Signed in as rita");
    };
    await enter();
    await page.route("**/votes", (route) => route.fulfill({ status: 400 }));
    await card(page, 1).click();
    await shows(mine(page, 1), "1 not counted");
    await enter();
    await shows(page.locator(".tray"), "2 votes each");
  });

  test("after a sign-out the device knows nothing of the voter, unless it is to", async (t) => {
    const poll = await makePoll({ votesPerVoter: 3 });
    const page = await newPage(t);
    await page.goto(viewer(poll));
    await card(page, 1).click();
    await signInAs(page, "vera");
    await shows(page.locator(".tray"), "2 of 3 votes left");
    const kept = () => page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
    await page.locator("#keep").check();
    await page.locator("#sign-out").click();
    await shows(page.locator("#sign-in"), "Sign in");
    assert.match(await kept(), /vera/);
    await page.locator("#sign-in").click();
    await signInAs(page, "vera");
    await shows(page.locator(".tray"), "2 of 3 votes left");
    await page.locator("#keep").uncheck();
    await page.locator("#sign-out").click();
    await shows(page.locator("#sign-in"), "Sign in");
    assert.doesNotMatch(await kept(), /vera/);
  });

  test("a ballot that another device has used: the page learns of it, and offers the next one", async (t) => {
    const poll = await makePoll({ votesPerVoter: 2 });
    await castVote(poll.id, 1, "olga", { ballot: 1 });
    const page = await newPage(t);
    await page.goto(viewer(poll));
    await card(page, 3).click();
    await signInAs(page, "olga");
    await shows(mine(page, 3), "1 not counted");
    await shows(page.locator(".refusal"), "this vote was used on another device. Tap again to use your next one.");
    await shows(page.locator(".tray"), "1 of 2 votes left");
    await card(page, 3).click();
    await shows(mine(page, 3), "1 counted · 1 not counted");
  });

  test("a vote is found in few public files, and in none after it is decided", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    const asked = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await page.goto(viewer(poll));
    await card(page, 2).click();
    await signInAs(page, "fred");
    await shows(mine(page, 2), "1 counted");
    const files = asked.filter((path) => path.startsWith("/log/"));
    assert.ok(files.length >= 1 && files.length <= 3, files.join());
    assert.ok(!asked.includes("/votes/mine"), "a read that grows with the audience");
    const before = asked.filter((path) => FILE.test(path)).length;
    await until("two more files have come", () => asked.filter((path) => FILE.test(path)).length > before + 1);
    assert.equal(asked.filter((path) => path.startsWith("/log/")).length, files.length);
  });

  test("without the public log, the answer by hand tells what became of a vote", async (t) => {
    const poll = await makePoll({ votesPerVoter: 2 });
    await castVote(poll.id, 1, "hannah", { ballot: 1 });
    const page = await newPage(t, { expected: /Failed to load resource/ });
    await page.route("**/log/**", (route) => route.fulfill({ status: 503 }));
    await page.goto(viewer(poll));
    await card(page, 3).click();
    await signInAs(page, "hannah");
    await learns(page, 3, "1 not counted");
    await card(page, 3).click();
    await learns(page, 3, "1 counted · 1 not counted");
  });

  test("a standing that the crew hides is gone, and cached copies of it stay hidden; it is back when public", async (t) => {
    const poll = await makePoll();
    await castVote(poll.id, 1, "somebody");
    const page = await newPage(t, { expected: /503/ });
    await page.goto(viewer(poll));
    await page.locator(".row").first().waitFor();
    await page.route(LIST, (route) => route.fulfill({ status: 503, body: "" }));
    // Another edge still serves an old file, every other time.
    let files = 0;
    await page.route(FILE, (route) => ((files += 1) % 2 ? route.continue() : route.fulfill({ json: fakeFile(poll, files) })));
    await crew("PATCH", `/admin/polls/${poll.id}`, { results: "hidden" });
    await shows(page.locator(".withheld"), "keeps its standing to itself");
    const before = files;
    await until("two old files have come", () => files > before + 3);
    assert.equal(await page.locator(".row").count(), 0);
    await page.unroute(FILE);
    await crew("PATCH", `/admin/polls/${poll.id}`, { results: "live" });
    await page.locator(".row").first().waitFor();
  });

  test("a page requests one object a tick, and names and pictures once per change", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    const asked = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    const namesAsked = () => asked.filter((path) => path.includes(".names-")).length;
    const filesAsked = () => asked.filter((path) => FILE.test(path)).length;
    await page.goto(viewer(poll));
    await page.locator(".row").first().waitFor();
    await until("five files have come", () => filesAsked() > 4);
    assert.equal(namesAsked(), 1);
    assert.ok(asked.every((path) => !path.startsWith("/polls")), "a request to the origin");
    const contestants = poll.contestants.map(({ number, name }) => ({ number, name: number === 2 ? "Brunilda" : name }));
    await crew("PATCH", `/admin/polls/${poll.id}`, { title: "Who wins?", contestants });
    await shows(page.locator(".poll h2"), "Who wins?");
    await shows(card(page, 2), "Brunilda");
    await page.locator(".row").filter({ hasText: "Brunilda" }).waitFor();
    assert.equal(namesAsked(), 2);
  });

  test("a page requests at the pace that the crew sets, and after its own vote every 3 s until it is decided", async (t) => {
    const poll = await makePoll({ pace: 10 });
    const page = await newPage(t);
    const askedAt = [];
    page.on("request", (request) => FILE.test(request.url()) && askedAt.push(Date.now()));
    const gaps = () => askedAt.slice(1).map((at, i) => at - askedAt[i]);
    await page.goto(viewer(poll));
    await page.locator(".row").first().waitFor();
    askedAt.length = 0;
    await until("three files have come", () => askedAt.length > 2);
    assert.ok(gaps().every((ms) => ms > SLOW_MS_MIN), `requested after ${gaps()} ms`);
    await page.locator("#sign-in").click();
    await signInAs(page, "paced");
    await shows(page.locator("#who"), "Signed in as paced");
    await card(page, 1).click();
    await shows(mine(page, 1), "1 sent");
    askedAt.splice(0, askedAt.length, Date.now());
    await shows(mine(page, 1), "1 counted");
    assert.ok(gaps().length && gaps().every((ms) => ms < SLOW_MS_MIN), `requested after ${gaps()} ms`);
    const after = askedAt.length;
    await until("two more files have come", () => askedAt.length > after + 2);
    assert.ok(gaps().at(-1) > SLOW_MS_MIN, `requested after ${gaps()} ms`);
  });

  test("offline and back: the vote waits, and counts once", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { expected: /ERR_INTERNET_DISCONNECTED/ });
    await page.goto(viewer(poll));
    await card(page, 1).click();
    await signInAs(page, "jonas");
    await shows(mine(page, 1), "1 counted");
    const before = await card(page, 3).boundingBox();
    await page.context().setOffline(true);
    await shows(notice(page), "No connection.");
    assert.deepEqual(await card(page, 3).boundingBox(), before, "the notice moved the ballot");
    await card(page, 2).click();
    await shows(mine(page, 2), "1 waiting to be sent");
    await shows(page.locator("#announcer"), "waits for the connection");
    await checkScreen(page, "viewer-offline");
    await page.context().setOffline(false);
    await shows(mine(page, 2), "1 counted");
    await notice(page).waitFor({ state: "hidden" });
    const audit = await crew("GET", `/admin/polls/${poll.id}/audit`);
    assert.equal(audit.ledgerVotes, 2);
  });

  test("an answer that is lost: the vote is sent again, and counts once", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { expected: /ERR_FAILED/ });
    let sent = 0;
    await page.route("**/votes", async (route) => {
      sent += 1;
      if (sent > 1) return route.continue();
      await route.fetch();
      await route.abort();
    });
    await page.goto(viewer(poll));
    await card(page, 1).click();
    await signInAs(page, "kai");
    await shows(mine(page, 1), "1 counted");
    assert.equal(sent, 2);
    const audit = await crew("GET", `/admin/polls/${poll.id}/audit`);
    assert.equal(audit.ledgerVotes, 1);
  });

  test("a token that has expired: the vote waits for the next sign-in", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    await page.goto(viewer(poll));
    await page.locator("#sign-in").click();
    await signInAs(page, "lena", 1);
    await shows(notice(page), "Your sign-in has ended.");
    await checkScreen(page, "viewer-sign-in-ended");
    await card(page, 4).click();
    await signInAs(page, "lena");
    await shows(mine(page, 4), "1 counted");
    await notice(page).waitFor({ state: "hidden" });
  });

  test("a vote that arrives after the close is refused with the reason", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    await page.goto(viewer(poll));
    await page.locator("#sign-in").click();
    await signInAs(page, "mika");
    // A tap before the session has begun would start another sign-in.
    await shows(page.locator("#who"), "Signed in as mika");
    let release;
    const closed = new Promise((resolve) => (release = resolve));
    await page.route("**/votes", async (route) => {
      await closed;
      await route.continue();
    });
    await card(page, 1).click();
    await crew("POST", `/admin/polls/${poll.id}/close`);
    release();
    await shows(state(page), "Closed");
    await shows(mine(page, 1), "1 not counted");
    await shows(page.locator("#announcer"), "the poll had closed.");
    await shows(page.locator(".refusal"), "Vote for Ada not counted: the poll had closed.");
    assert.ok(await card(page, 2).isDisabled());
    await checkScreen(page, "viewer-closed");
  });

  test("a poll that has not opened, one that withholds its standing, and one that shows it after the close", async (t) => {
    const page = await newPage(t);
    await page.goto(viewer(await makePoll({ opensAt: inSeconds(3600), closesAt: inSeconds(7200) })));
    await shows(state(page), "Not open yet");
    await shows(page.locator(".timer"), /opens in\s*59:\d\d/);
    assert.ok(await card(page, 1).isDisabled());
    await checkScreen(page, "viewer-scheduled");

    await page.goto(viewer(await makePoll({ results: "hidden" })));
    await shows(page.locator(".withheld"), "keeps its standing to itself");
    await checkScreen(page, "viewer-hidden");

    const poll = await makePoll({ results: "afterClose" });
    await page.goto(viewer(poll));
    await shows(page.locator(".withheld"), "when the poll has closed");
    await crew("POST", `/admin/polls/${poll.id}/close`);
    await shows(state(page), "Closed");
    await shows(page.locator(".row").first(), "Ada");
  });

  test("a file that is not there yet is requested at the edge's pace", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { expected: /404/ });
    const askedAt = [];
    await page.route(FILE, (route) => (askedAt.push(Date.now()) < 4 ? route.fulfill({ status: 404, body: "" }) : route.continue()));
    await page.goto(viewer(poll));
    await shows(page.locator(".row").first(), "Ada");
    const gaps = askedAt.slice(1).map((at, i) => at - askedAt[i]);
    assert.ok(gaps.every((ms) => ms > 2900), `requested after ${gaps} ms`);
    assert.ok(await notice(page).isHidden());
  });

  test("pages do not all request the file at the moment of an opening", async (t) => {
    const poll = await makePoll({ opensAt: inSeconds(20), draft: false });
    const page = await newPage(t);
    // The last of all pages.
    await page.addInitScript(() => (Math.random = () => 0.99));
    const askedAt = [];
    page.on("request", (request) => FILE.test(request.url()) && askedAt.push(Date.now()));
    await page.goto(viewer(poll));
    await shows(state(page), "Not open yet");
    // Until the list has the poll, the page looks for its file.
    askedAt.length = 0;
    await shows(state(page), "Open");
    await page.locator(".row").first().waitFor();
    assert.ok(askedAt[0] - Date.parse(poll.opensAt) > 2000, `requested ${askedAt[0] - Date.parse(poll.opensAt)} ms after the opening`);
  });

  test("the service is unavailable: the page says so, keeps its data, and recovers by itself", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { expected: /503/ });
    await page.goto(viewer(poll));
    await shows(page.locator(".row").first(), "Ada");
    const asked = "**/results/**";
    await page.route(asked, (route) => route.fulfill({ status: 503, body: "" }));
    await shows(notice(page), "The service does not answer now.");
    assert.ok(await card(page, 1).isEnabled());
    await checkScreen(page, "viewer-service-away");
    await page.unroute(asked);
    await notice(page).waitFor({ state: "hidden" });
  });

  test("no poll is open", async (t) => {
    const page = await newPage(t);
    await page.route(LIST, (route) => route.fulfill({ json: { listVersion: 1, nextInSeconds: 10, polls: [] } }));
    await page.goto(BASE);
    await shows(page.locator("#empty"), "No poll is open now");
    await checkScreen(page, "viewer-no-poll");
  });

  test("a new poll is announced below, and moves nothing", async (t) => {
    const first = await makePoll({ title: "The first" });
    const page = await newPage(t);
    await page.goto(BASE);
    const place = page.locator(`#poll-${first.id}`);
    await place.waitFor();
    const before = await place.boundingBox();
    const second = await makePoll({ title: "The second" });
    await page.locator(`#poll-${second.id}`).waitFor();
    await shows(notice(page), "A new poll is open");
    assert.deepEqual(await place.boundingBox(), before, "the new poll moved an existing one");
  });

  test("in Portuguese", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { locale: "pt-BR" });
    await page.goto(viewer(poll));
    await shows(state(page), "Aberta");
    assert.equal(await page.locator("html").getAttribute("lang"), "pt-BR");
    await checkAccess(page, "pt");
  });

  for (const [name, options] of [
    ["320", { viewport: { width: 320, height: 640 } }],
    ["1280", { viewport: { width: 1280, height: 800 } }],
    ["4k", { viewport: { width: 3840, height: 2160 } }],
    ["dark", { colorScheme: "dark" }],
    ["rtl", { viewport: { width: 1280, height: 800 }, locale: "pt", rtl: true }],
  ]) {
    test(`nothing is cut off, and targets are large enough: ${name}`, async (t) => {
      const contestants = [{ name: "Wolfeschlegelsteinhausenbergerdorff" }, { name: "Ana Clara" }, { name: "Þórdís Çelik-Nuñez", number: 12345 }];
      const poll = await makePoll({ contestants, closesAt: inSeconds(600) });
      await castVote(poll.id, 1, "somebody");
      const page = await newPage(t, options);
      if (options.rtl) await page.route("**/public.pt.*.json", rightToLeft);
      await page.goto(viewer(poll));
      await shows(page.locator(".row").first().locator(".votes"), "1");
      const [inner, scroll] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
      assert.ok(scroll <= inner, `${scroll} px of content in ${inner}`);
      const box = await card(page, 1).boundingBox();
      assert.ok(box.height >= 44 && box.width >= 44, "a target too small for a finger");
      await checkScreen(page, `viewer-${name}`);
    });
  }

  test("with reduced motion nothing moves", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { reducedMotion: "reduce" });
    await page.goto(viewer(poll));
    await shows(page.locator(".row").first(), "Ada");
    await page.evaluate(() => {
      globalThis.moved = 0;
      const onFrame = () => {
        globalThis.moved += document.getAnimations().length;
        requestAnimationFrame(onFrame);
      };
      onFrame();
    });
    await castVote(poll.id, 4, "somebody-else");
    await shows(page.locator(".row").first(), "Dario");
    assert.equal(await page.evaluate(() => globalThis.moved), 0);
  });
});
