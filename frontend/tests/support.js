// The stack at BASE_URL, and Chromium to look at it. Tests share the stack, so each makes polls of its own.

import { after, before, describe } from "node:test";
import assert from "node:assert/strict";
import { accessSync, constants, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { chromium } from "playwright-core";

export const BASE = process.env.BASE_URL;
assert.ok(BASE, "BASE_URL is missing: run scripts/test_pages.sh");

/** Long enough for anything that happens at all, on the slowest machine. */
export const PATIENCE_MS = 60_000;
/** Tests of a file at a time: more keep a small machine's processors busy without being done sooner. */
const SIDE_BY_SIDE = 4;

const BROWSERS = ["chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"];
const MAC_BROWSERS = ["Chromium", "Google Chrome"].map((name) => `/Applications/${name}.app/Contents/MacOS/${name}`);
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** CHROMIUM, else the system's. */
function browserPath() {
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  const found = BROWSERS.flatMap((name) => folders.map((folder) => path.join(folder, name)));
  const all = [process.env.CHROMIUM, ...found, ...MAC_BROWSERS].filter(Boolean);
  const usable = all.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  assert.ok(usable, `no Chromium here: scripts/setup.sh browser installs one, or set CHROMIUM (looked for ${BROWSERS})`);
  return usable;
}

let browser;

/** A file's tests, side by side in one browser: what they wait for is batches, bells and the edge's lifetimes. `flags`: Chromium's. */
export function sideBySide(name, tests, flags = []) {
  describe(name, { concurrency: SIDE_BY_SIDE }, () => {
    before(async () => {
      // Chromium's sandbox does not work for root, which is who tests run as in a container.
      const root = process.getuid?.() === 0;
      browser = await chromium.launch({ executablePath: browserPath(), args: [...(root ? ["--no-sandbox"] : []), ...flags] });
    });
    after(() => browser.close());
    tests();
  });
}

/** A browser of somebody's own. What it complains about fails the test, but for what `expected` matches. */
export async function somebody(t, { expected = /(?!)/, ...options } = {}) {
  const context = await browser.newContext({ locale: "en-GB", viewport: { width: 390, height: 844 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  context.on("weberror", (error) => complaints.push(String(error.error())));
  context.on("console", (message) => {
    // A poll made in the past, as tests make them, has its file some seconds after it should.
    const early = /\/results\/\d+\.json$/.test(message.location().url);
    if (message.type() === "error" && !early) complaints.push(message.text());
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints.filter((text) => !expected.test(text)), [], "the browser complained");
  });
  return context.newPage();
}

const tokens = new Map();

function token(query) {
  const asked = async () => (await (await fetch(`${BASE}/_local/token?${query}`)).json()).access_token;
  if (!tokens.has(query)) tokens.set(query, asked());
  return tokens.get(query);
}

let crewsTurn = Promise.resolve();

/** Calls the API as the crew, one call after the other: the function has five instances, and the pages need some. */
export function crew(method, route, body) {
  const turn = crewsTurn.then(() => callAsCrew(method, route, body));
  crewsTurn = turn.catch(() => {});
  return turn;
}

async function callAsCrew(method, route, body) {
  const authorization = `Bearer ${await token("sub=test-crew&scope=admin")}`;
  const headers = { authorization, "content-type": "application/json" };
  const response = await fetch(BASE + route, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${route}: ${response.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

export const inSeconds = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();

/** A poll that is open, and public, unless `changes` says otherwise. */
export function makePoll(changes = {}) {
  const contestants = ["Ada", "Bruno", "Carmen", "Dario"].map((name) => ({ name }));
  return crew("POST", "/admin/polls", { title: "Who goes to the final?", opensAt: inSeconds(-60), draft: false, contestants, ...changes });
}

/** Casts a vote past the pages; `more`: a ballot. */
export async function castVote(poll, contestant, voter, more = {}) {
  const authorization = `Bearer ${await token(`sub=${voter}`)}`;
  const body = JSON.stringify({ poll, contestant, id: crypto.randomUUID(), ...more });
  const headers = { authorization, "content-type": "application/json" };
  const response = await fetch(`${BASE}/votes`, { method: "POST", headers, body });
  return response.status === 202;
}

/** A poll's nth standing, made up: another order and other people each time, since eight contend for five places. */
export function changing(poll, n) {
  const people = Array.from({ length: 8 }, (_, i) => {
    return { contestant: i + 1, name: `Person ${i + 1}`, votes: ((i + 1) * n * 7919) % 1000 };
  });
  people.sort((a, b) => b.votes - a.votes);
  const sum = people.reduce((sum, { votes }) => sum + votes, 0);
  const ranking = people.map((person, i) => ({ ...person, rank: i + 1, share: person.votes / sum }));
  return { poll: poll.id, totalVotes: 100 + n, ranking, asOf: inSeconds(0), status: "open" };
}

/** Waits until a poll's file has so many votes, and a certificate if it is to be `certified`, and gives it. */
export async function filed(poll, votes, certified = false) {
  let file = null;
  await until(`the file of poll ${poll.id} has ${votes} votes`, async () => {
    const response = await fetch(`${BASE}/results/${poll.id}.json`);
    file = response.ok ? await response.json() : null;
    return file?.turnout.votes === votes && (file.certified || !certified);
  });
  return file;
}

/** Has a page believe that polls opened an hour before they did, and so have files: it waits a minute for those. */
export async function openedLongAgo(page) {
  await page.route(/\/polls(\/\d+)?$/, async (route) => {
    if (route.request().method() !== "GET") return route.continue();
    const response = await route.fetch();
    const earlier = (key, value) => (key === "opensAt" && value ? new Date(Date.parse(value) - 3_600_000) : value);
    await route.fulfill({ response, json: JSON.parse(await response.text(), earlier) });
  });
}

/** Looks again and again until it is so. */
export async function until(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Lets so many receipts of counted votes reach a page, and the next only when the function that this gives is called. */
export async function holdReceipts(page, passing = 0) {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route("**/votes/mine?id=*", async (route) => {
    const response = await route.fetch();
    if ((await response.json()).outcome === "counted" && passing-- <= 0) await released;
    await route.fulfill({ response });
  });
  return release;
}

/** Gives a name on the issuer's form, and comes back. */
export async function giveName(page, name, lifetimeS) {
  await page.getByLabel("Name").fill(name);
  if (lifetimeS) await page.getByLabel("The token is good for").fill(String(lifetimeS));
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** Signs in as the crew, with a poll on the desk. */
export async function enterRoom(page, poll, name = "crew") {
  await page.goto(`${BASE}/control/`);
  await page.locator("#sign-in").click();
  await giveName(page, name);
  await page.locator("#polls button").first().waitFor();
  const number = page.getByText(String(poll.id), { exact: true });
  await page.locator("#polls button").filter({ has: number }).click();
}

/** Waits for a text in an element. */
export const shows = (locator, text) => locator.filter({ hasText: text }).first().waitFor();

export const viewer = (poll) => `${BASE}/?poll=${poll.id}`;
export const notice = (page) => page.locator("#notice");
export const mine = (page, number) => card(page, number).locator(".mine");
export const card = (page, number) => page.locator(".card").nth(number - 1);

/** Fails on any violation that axe-core finds, of WCAG 2.2 AA and of its best practices. */
export async function checkAccess(page, state) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(found, [], `axe-core, ${state}`);
}

/** For the docs, where SCREENS names a folder: the page as it is, settled. First, since a state may not last. */
export async function screen(page, name) {
  if (process.env.SCREENS) await takePicture(page, name);
  await checkAccess(page, name);
}

async function takePicture(page, name) {
  await page.mouse.move(0, 0);
  mkdirSync(process.env.SCREENS, { recursive: true });
  await page.waitForFunction(() => document.getAnimations().every(({ playState }) => playState !== "running"));
  await page.evaluate(() => document.fonts.ready);
  await page.screenshot({ path: path.join(process.env.SCREENS, `${name}.png`), animations: "disabled" });
}
