// Test support: the stack at BASE_URL, and Chromium. Tests share the stack, so each creates polls of its own.

import { after, before, describe } from "node:test";
import assert from "node:assert/strict";
import { accessSync, constants, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { chromium } from "playwright-core";

export const BASE = process.env.BASE_URL;
assert.ok(BASE, "BASE_URL is missing: run scripts/test_pages.sh");

/** The timeout of every wait; long enough for the slowest machine. */
export const TIMEOUT_MS = 60_000;
/** Concurrent tests of a file: more do not finish sooner on a small machine. */
const CONCURRENCY = 4;

const BROWSERS = ["chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"];
const MAC_BROWSERS = ["Chromium", "Google Chrome"].map((name) => `/Applications/${name}.app/Contents/MacOS/${name}`);
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Returns the path of $CHROMIUM, else of the system's Chromium. */
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

/** Runs a file's tests concurrently in one browser: they mostly wait for batches, closes and TTLs. `flags`: Chromium's. */
export function describeConcurrently(name, tests, flags = []) {
  describe(name, { concurrency: CONCURRENCY }, () => {
    before(async () => {
      // Chromium's sandbox does not work for root, the user of tests in a container.
      const root = process.getuid?.() === 0;
      browser = await chromium.launch({ executablePath: browserPath(), args: [...(root ? ["--no-sandbox"] : []), ...flags] });
    });
    after(() => browser.close());
    tests();
  });
}

/** Opens a page in a browser context of its own. Its errors fail the test, unless `expected` matches. */
export async function newPage(t, { expected = /(?!)/, ...options } = {}) {
  const context = await browser.newContext({ locale: "en-GB", viewport: { width: 390, height: 844 }, ...options });
  context.setDefaultTimeout(TIMEOUT_MS);
  const errors = [];
  context.on("weberror", (error) => errors.push(String(error.error())));
  context.on("console", (message) => {
    // A poll's file appears some seconds after the poll.
    const isMissingFile = /\/results\/\d+\.json$/.test(message.location().url);
    if (message.type() === "error" && !isMissingFile) errors.push(message.text());
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(errors.filter((text) => !expected.test(text)), [], "errors in the browser");
  });
  return context.newPage();
}

const tokens = new Map();

function token(query) {
  const fetchToken = async () => (await (await fetch(`${BASE}/_local/token?${query}`)).json()).access_token;
  if (!tokens.has(query)) tokens.set(query, fetchToken());
  return tokens.get(query);
}

let lastCrewCall = Promise.resolve();

/** Calls the API as the crew, one call at a time: the function has five instances, and the pages need some. */
export function crew(method, route, body) {
  const result = lastCrewCall.then(() => callAsCrew(method, route, body));
  lastCrewCall = result.catch(() => {});
  return result;
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

/** Creates a poll, by default open and public, and requested every 3 s. */
export function makePoll(changes = {}) {
  const contestants = ["Ada", "Bruno", "Carmen", "Dario"].map((name) => ({ name }));
  return crew("POST", "/admin/polls", { title: "Who goes to the final?", opensAt: inSeconds(-60), draft: false, pace: 3, contestants, ...changes });
}

/** Casts a vote without the pages; returns whether it was accepted. `more`: a ballot. */
export async function castVote(poll, contestant, voter, more = {}) {
  const authorization = `Bearer ${await token(`sub=${voter}`)}`;
  const body = JSON.stringify({ poll, contestant, id: crypto.randomUUID(), ...more });
  const headers = { authorization, "content-type": "application/json" };
  const response = await fetch(`${BASE}/votes`, { method: "POST", headers, body });
  return response.status === 202;
}

/** Returns a poll's nth made-up file: another order and other top five of eight each time. */
export function fakeFile(poll, n) {
  const people = Array.from({ length: 8 }, (_, i) => {
    return { contestant: i + 1, name: `Person ${i + 1}`, votes: ((i + 1) * n * 7919) % 1000 };
  });
  people.sort((a, b) => b.votes - a.votes);
  const sum = people.reduce((sum, { votes }) => sum + votes, 0);
  const ranking = people.map((person, i) => ({ ...person, rank: i + 1, share: person.votes / sum }));
  const contestants = people.map(({ contestant, name }) => ({ number: contestant, name }));
  const { id, ...definition } = poll;
  const figures = { totalVotes: 100 + n, turnout: { votes: 100 + n, voters: null, votersError: null }, ranking, asOf: inSeconds(0) };
  return { ...definition, contestants, poll: id, status: "open", certified: false, listVersion: 1, nextInSeconds: 3, ...figures };
}

/** A poll's file. */
export const FILE = /\/results\/\d+\.json$/;
/** The list of polls. */
export const LIST = "**/results/polls.json";

/** Waits for a poll's file with a number of votes, and with a certificate and its supplement if `certified`; returns it. */
export async function waitForFile(poll, votes, certified = false) {
  let file = null;
  await until(`the file of poll ${poll.id} has ${votes} votes`, async () => {
    const response = await fetch(`${BASE}/results/${poll.id}.json`);
    file = response.ok ? await response.json() : null;
    return file?.turnout.votes === votes && (file.certificate?.digest || !certified);
  });
  return file;
}

/** Waits until the edge has a list with a poll. */
export async function waitForList(poll) {
  await until(`the list has poll ${poll.id}`, async () => {
    const response = await fetch(`${BASE}/results/polls.json`);
    return response.ok && (await response.json()).polls.some(({ id }) => id === poll.id);
  });
}

/** Waits until a condition holds. */
export async function until(what, condition) {
  const deadline = Date.now() + TIMEOUT_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Asks by hand what became of a page's votes, until a contestant's card shows this. */
export async function learns(page, number, text) {
  // The edge takes 30 such requests a minute of one token.
  const pauseMs = 2500;
  await until(`card ${number} shows ${text}`, async () => {
    if ((await mine(page, number).textContent()).includes(text)) return true;
    const button = page.locator(".lookup:visible:enabled");
    if (await button.count()) await button.first().click();
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    return false;
  });
}

/** Signs in on the issuer's form. */
export async function signInAs(page, name, lifetimeS) {
  await page.getByLabel("Name").fill(name);
  if (lifetimeS) await page.getByLabel("The token is good for").fill(String(lifetimeS));
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** Opens the control room, signs in, and selects a poll. */
export async function openControlRoom(page, poll, name = "crew") {
  await page.goto(`${BASE}/control/`);
  await page.locator("#sign-in").click();
  await signInAs(page, name);
  await page.locator("#polls button").first().waitFor();
  const number = page.getByText(String(poll.id), { exact: true });
  await page.locator("#polls button").filter({ has: number }).click();
  // The form and the buttons belong to the poll once its answer is there.
  await page.waitForFunction((title) => document.querySelector("form [name=title]")?.value === title, poll.title);
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

/** Checks a page's accessibility; before, takes a screenshot for the docs if SCREENS names a folder: states may not last. */
export async function checkScreen(page, name) {
  if (process.env.SCREENS) await takeScreenshot(page, name);
  await checkAccess(page, name);
}

async function takeScreenshot(page, name) {
  await page.mouse.move(0, 0);
  mkdirSync(process.env.SCREENS, { recursive: true });
  await page.waitForFunction(() => document.getAnimations().every(({ playState }) => playState !== "running"));
  await page.evaluate(() => document.fonts.ready);
  await page.screenshot({ path: path.join(process.env.SCREENS, `${name}.png`), animations: "disabled" });
}
