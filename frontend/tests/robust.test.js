// Real phones: wrong clocks, old browsers, blocked storage, frames, missing texts.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import {
  BASE, card, crew, openControlRoom, signInAs, inSeconds, makePoll, mine, notice, shows, describeConcurrently, newPage, until, viewer,
} from "./support.js";

const MINUTE_MS = 60_000;

/** Makes a browser's clock wrong by some minutes. */
async function setClock(page, minutes) {
  await page.context().addInitScript((ms) => {
    const RealDate = Date;
    globalThis.wrongMs = ms;
    globalThis.Date = class extends RealDate {
      constructor(...given) {
        if (given.length) super(...given);
        else super(RealDate.now() + globalThis.wrongMs);
      }
      static now() {
        return RealDate.now() + globalThis.wrongMs;
      }
    };
  }, minutes * MINUTE_MS);
}

/** Delays polls and standings until the returned function is called. */
async function holdPolls(page) {
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route("**/results/**", async (route) => {
    await released;
    await route.continue();
  });
  return release;
}

/** Fails the request that only learns the time: the only one with `no-store`. */
async function failTime(page) {
  await page.addInitScript(() => {
    const realFetch = globalThis.fetch;
    globalThis.fetch = (url, options) =>
      options?.cache === "no-store" ? Promise.reject(new TypeError("no network")) : realFetch(url, options);
  });
}

/** Changes claims in the issuer's ID tokens; a page trusts a token that comes directly from the issuer. */
async function changeIdToken(page, claims) {
  await page.route("**/_local/token", async (route) => {
    const response = await route.fetch();
    const tokens = await response.json();
    const [head, body, signature] = tokens.id_token.split(".");
    const changed = { ...JSON.parse(Buffer.from(body, "base64url")), ...claims() };
    tokens.id_token = [head, Buffer.from(JSON.stringify(changed)).toString("base64url"), signature].join(".");
    await route.fulfill({ response, json: tokens });
  });
}

/** Blocks site data, like the browser setting. */
async function blockStorage(page) {
  await page.context().addInitScript(() => {
    for (const name of ["localStorage", "sessionStorage"]) {
      Object.defineProperty(globalThis, name, {
        get() {
          throw new DOMException("Access is denied for this document.", "SecurityError");
        },
      });
    }
  });
}

describeConcurrently("a phone whose clock is wrong", () => {
  test("20 minutes ahead: the vote survives the redirect to the issuer and back", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    await setClock(page, 20);
    await page.goto(viewer(poll));
    await card(page, 1).click();
    await signInAs(page, "ahead");
    await shows(mine(page, 1), "1 counted");
  });

  test("two hours behind: the session survives when the right time is learned", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    await setClock(page, -120);
    await page.goto(viewer(poll));
    await page.locator("#sign-in").click();
    let release;
    const signedIn = new Promise((resolve) => (release = resolve));
    await page.route("**/results/**", async (route) => {
      await signedIn;
      await route.continue();
    });
    await signInAs(page, "behind", 3600);
    await shows(page.locator("#who"), "Signed in as behind");
    release();
    await card(page, 2).click();
    await shows(mine(page, 2), "1 counted");
    assert.ok(await notice(page).isHidden());
  });

  for (const [name, hours, changes] of [
    ["ahead by more than a token is good for", 13, {}],
    ["ahead by a day, with a token for ten minutes", 24, { lifetimeS: 600 }],
    ["behind by a day, with a token that holds from now on", -24, { claims: () => ({ nbf: Date.now() / 1000 }) }],
  ]) {
    for (const learned of [true, false]) {
      test(`${name}, and the server's time is ${learned ? "" : "not "}learned: the vote is sent`, async (t) => {
        const poll = await makePoll();
        const page = await newPage(t);
        await setClock(page, hours * 60);
        if (!learned) await failTime(page);
        if (changes.claims) await changeIdToken(page, changes.claims);
        await page.goto(viewer(poll));
        await card(page, 1).waitFor();
        const release = await holdPolls(page);
        await card(page, 1).click();
        await signInAs(page, "wrong-clock", changes.lifetimeS);
        await shows(page.locator("#who"), "Signed in as wrong-clock");
        release();
        await shows(mine(page, 1), "1 counted");
        assert.ok(await notice(page).isHidden());
      });
    }
  }

  test("an ID token that has ended is refused, by the server's time", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    await setClock(page, -24 * 60);
    await changeIdToken(page, () => ({ exp: Date.now() / 1000 - 3600 }));
    await page.goto(viewer(poll));
    await page.locator("#sign-in").click();
    await signInAs(page, "ended");
    await shows(notice(page), "Signing in did not work.");
  });

  for (const minutes of [-15, 15]) {
    test(`${minutes} minutes, and set right while a vote waits: the vote is sent`, async (t) => {
      const poll = await makePoll();
      const page = await newPage(t, { expected: /503/ });
      await setClock(page, minutes);
      let away = true;
      await page.route("**/votes", (route) => (away ? route.fulfill({ status: 503, body: "" }) : route.continue()));
      await page.goto(viewer(poll));
      await card(page, 1).click();
      await signInAs(page, "set-right");
      await shows(page.locator("#who"), "Signed in as set-right");
      await shows(mine(page, 1), "1 waiting to be sent");
      // Until another answer arrives, the page's time is from before the change.
      const release = await holdPolls(page);
      await page.evaluate(() => {
        globalThis.wrongMs = 0;
        dispatchEvent(new Event("online"));
      });
      await shows(mine(page, 1), "1 waiting to be sent");
      assert.equal(await page.locator(".refusal").textContent(), "");
      away = false;
      release();
      await shows(mine(page, 1), "1 counted");
    });
  }

  test("a vote of an hour ago is not sent, and the page says why", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    await setClock(page, 20);
    const votes = [{ contestant: 1, count: 1, ballot: null, state: "waiting", reason: null }];
    const request = { id: crypto.randomUUID(), poll: poll.id, limit: null, votes, tries: 0, mintedAt: Date.now() - 60 * MINUTE_MS };
    await page.addInitScript((request) => {
      if (!sessionStorage.getItem("requests")) sessionStorage.setItem("requests", JSON.stringify([request]));
    }, request);
    await page.goto(viewer(poll));
    await shows(mine(page, 1), "1 not counted");
    await shows(page.locator(".refusal"), "it had waited too long to be sent.");
  });
});

/** The behaviour without each API in the table of fallbacks.js. */
const WITHOUT = {
  "AbortSignal.timeout": votes,
  "Element.prototype.replaceChildren": votes,
  "HTMLDialogElement.prototype.showModal": certifies,
  sessionStorage: votesInAnotherWindow,
  "crypto.subtle": cannotSignIn,
};

async function votes(t, page, poll) {
  await page.goto(viewer(poll));
  await card(page, 1).click();
  await signInAs(page, "old-phone");
  await shows(mine(page, 1), "1 counted");
  await shows(page.locator(".row").first(), "Ada");
}

async function votesInAnotherWindow(t, page, poll) {
  await page.goto(viewer(poll));
  const [popup] = await Promise.all([page.waitForEvent("popup"), card(page, 1).click()]);
  await signInAs(popup, "without-storage");
  await shows(mine(page, 1), "1 counted");
  assert.ok(popup.isClosed(), "the popup stays open");
}

async function certifies(t, page, poll) {
  // A browser without dialogs neither hides nor closes the element.
  await page.addInitScript(() => delete HTMLDialogElement.prototype.close);
  await page.route("**/shared/base.*.css", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `dialog { display: inline; }${await response.text()}` });
  });
  await openControlRoom(page, poll);
  assert.ok(await page.locator("#confirm").isHidden(), "an empty dialog is on the desk");
  const messages = [];
  page.on("dialog", (dialog) => {
    messages.push(dialog.message());
    return dialog.dismiss();
  });
  await crew("POST", `/admin/polls/${poll.id}/close`);
  await page.locator("#certify").click();
  await until("the browser asks", () => messages.length);
  assert.match(messages[0], /The result becomes final/);
  assert.ok(await page.locator("#confirm").isHidden());
}

async function cannotSignIn(t, page, poll) {
  await page.goto(viewer(poll));
  await card(page, 1).click();
  await shows(notice(page), "Signing in did not work.");
}

/** APIs that are newer than the oldest browsers that can run the pages. */
const NEWER = [
  "AbortSignal.timeout", "AbortSignal.any", "replaceChildren", "showModal", "structuredClone", "randomUUID", "Object.hasOwn",
  "Object.groupBy", "Promise.withResolvers", ".at(", ".findLast(", ".toSorted(", ".toReversed(", ".toSpliced(", ".with(",
  "showPopover", "startViewTransition", "scheduler.", "URL.canParse", "Array.fromAsync", "new Set().union", "requestIdleCallback",
];

const PAGES = new URL("..", import.meta.url);

/** Returns the published scripts, without comments. */
function scripts() {
  const files = ["shared", "viewer", "overlay", "control"].flatMap((folder) =>
    readdirSync(new URL(`${folder}/`, PAGES)).filter((file) => file.endsWith(".js")).map((file) => `${folder}/${file}`),
  );
  return files.map((file) => [file, readFileSync(new URL(file, PAGES), "utf8").replace(/^\s*(\/\/|\/?\*).*$/gm, "")]);
}

function listed() {
  const table = readFileSync(new URL("shared/fallbacks.js", PAGES), "utf8");
  return [...table.matchAll(/^\/\/ \| ([\w.]+) +\|/gm)].map(([, name]) => name).filter((name) => name !== "API");
}

describeConcurrently("an older browser", () => {
  test("every newer API that the pages use is listed, and each listed one is tested", () => {
    assert.deepEqual(listed().sort(), Object.keys(WITHOUT).sort());
    for (const [file, source] of scripts()) {
      for (const name of NEWER.filter((name) => source.includes(name))) {
        assert.ok(listed().some((known) => known.endsWith(name)), `${file} uses ${name}, which fallbacks.js does not list`);
      }
    }
  });

  for (const [name, then] of Object.entries(WITHOUT)) {
    test(`without ${name}`, async (t) => {
      const poll = await makePoll();
      const page = await newPage(t);
      if (name === "sessionStorage") await blockStorage(page);
      else {
        await page.addInitScript((name) => {
          const names = name.split(".");
          const last = names.pop();
          const owner = names.reduce((owner, name) => owner[name], globalThis);
          if (!delete owner[last] || last in owner) Object.defineProperty(owner, last, { value: undefined, writable: true });
        }, name);
      }
      await then(t, page, poll);
    });
  }

  for (const [name, address, script] of [["viewers'", "/", "viewer"], ["crew's", "/control/", "control"]]) {
    test(`a browser that cannot run the ${name} page gets a message`, async (t) => {
      const page = await newPage(t, { expected: /SyntaxError/ });
      await page.route(`**/${script}/${script}.*.js`, (route) => {
        return route.fulfill({ contentType: "text/javascript", body: "class Newer { # }" });
      });
      await page.goto(BASE + address);
      const told = (page) => page.getByText(/this browser is too old/i).filter({ visible: true });
      await told(page).waitFor();
      const modern = await newPage(t);
      await modern.goto(BASE + address);
      await modern.locator("html[dir]").waitFor();
      assert.equal(await told(modern).count(), 0);
    });
  }
});

describeConcurrently("a browser with blocked storage", () => {
  test("the page works, and forgets on reload", async (t) => {
    const poll = await makePoll({ votesPerVoter: 3 });
    const page = await newPage(t);
    await blockStorage(page);
    await votesInAnotherWindow(t, page, poll);
    await card(page, 2).click();
    await shows(mine(page, 2), "1 counted");
    await shows(page.locator(".tray"), "1 of 3 votes left");
    await page.reload();
    await shows(page.locator(".tray"), "3 votes each");
    await page.locator("#sign-in").waitFor();
  });
});

/** Chromium treats a test's answer as one from the internet, which may not call this machine. */
const LOOPBACK = ["--disable-features=LocalNetworkAccessChecks"];

describeConcurrently("a sandboxed frame", () => {
  test("polls and standing are shown, and no sign-in is possible", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t);
    // A parameter of the template names the sites that may frame the pages.
    await page.route(viewer(poll), async (route) => {
      const response = await route.fetch();
      const { "x-frame-options": _, ...headers } = response.headers();
      const policy = headers["content-security-policy"].replace("frame-ancestors 'none'", "frame-ancestors *");
      await route.fulfill({ response, headers: { ...headers, "content-security-policy": policy } });
    });
    const site = `${BASE}/show-s-own-site`;
    const body = `<!doctype html><iframe sandbox="allow-scripts" width="390" height="800" src="${viewer(poll)}"></iframe>`;
    await page.route(site, (route) => route.fulfill({ contentType: "text/html", body }));
    await page.goto(site);
    const frame = page.frameLocator("iframe");
    await shows(frame.locator(".row").first(), "Ada");
    await frame.locator(".card").first().click();
    await shows(frame.locator(".mine").first(), "1 waiting to be sent");
    await shows(frame.locator("#notice"), "Open the page in a window of its own.");
  });
}, LOOPBACK);

describeConcurrently("texts that load late", () => {
  test("English is shown until the language has loaded", async (t) => {
    const poll = await makePoll();
    const page = await newPage(t, { locale: "pt-BR", expected: /503/ });
    let away = true;
    await page.route("**/text/*pt.*.json", (route) => (away ? route.fulfill({ status: 503, body: "" }) : route.continue()));
    await page.goto(viewer(poll));
    await shows(page.locator(".poll .state"), "Open");
    await shows(page.locator(".below .total"), "0 votes");
    away = false;
    await shows(page.locator(".poll .state"), "Aberta");
    await shows(card(page, 1), "Votar em");
    await shows(page.locator(".below .total"), "0 voto, às");
    assert.equal(await page.locator(".poll").count(), 1);
  });

  for (const [lang, language] of [["constructor", "en-GB"], ["pt_BR", "en-GB"], ["en-@@", "en"], ["PT", "PT"]]) {
    test(`?lang=${lang}`, async (t) => {
      const poll = await makePoll();
      const page = await newPage(t);
      await page.goto(`${viewer(poll)}&lang=${lang}`);
      await shows(page.locator(".poll .state"), lang === "PT" ? "Aberta" : "Open");
      assert.equal(await page.locator("html").getAttribute("lang"), language);
    });
  }
});
