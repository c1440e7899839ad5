// What the pages say. English is part of the page and is there at once; each other language is a file in /text/, in
// place of which English stands until it has come.

import { say } from "/shared/dom.js";
import { deadline } from "/shared/feed.js";
import { english } from "/text/public.en.js";

const FILES = new Map([["en", null], ["pt", "/text/public.pt.json"]]);
const TIMEOUT_MS = 10_000;
/** For so long a page says nothing at all rather than something in English. */
const PATIENCE_MS = 4_000;
const RETRY_MS_MAX = 60_000;

const inEnglish = { ...english };
let words = {};
let plural, number, share, clock, moment, list;

function use(tag) {
  plural = new Intl.PluralRules(tag);
  number = new Intl.NumberFormat(tag);
  share = new Intl.NumberFormat(tag, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  clock = new Intl.DateTimeFormat(tag, { timeStyle: "medium" });
  moment = new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "short" });
  list = new Intl.ListFormat(tag);
  document.documentElement.lang = tag;
}
use("en");

export const formatNumber = (value) => number.format(value);
export const formatShare = (value) => share.format(value);
export const formatClock = (ms) => clock.format(ms);
export const formatMoment = (ms) => moment.format(ms);
export const formatList = (names) => list.format(names);

/** The text of a key; `{name}` in it stands for a value, and `n` chooses between its plural forms. */
export function t(key, values = {}) {
  let text = words[key] ?? inEnglish[key];
  if (text && typeof text === "object") text = text[plural.select(values.n)] ?? text.other;
  return (text ?? key).replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? formatNumber(values[name]) : values[name] ?? "",
  );
}

/** The language of a tag such as `pt-BR`. */
const base = (tag) => tag.split("-")[0].toLowerCase();

/** Puts texts into what is marked up with `data-t`, and into labels with `data-t-label`. Numbers follow the region. */
function speak(tag, loaded) {
  try {
    use(tag);
  } catch {
    // `?lang=` holds what no language is called.
    use(base(tag));
  }
  words = loaded;
  document.documentElement.dir = t("direction");
  for (const element of document.querySelectorAll("[data-t]")) say(element, t(element.dataset.t));
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
}

async function read(file) {
  const answer = await fetch(file, { signal: deadline(TIMEOUT_MS) });
  if (!answer.ok) throw new Error(`${file}: ${answer.status}`);
  return answer.json();
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks until all have come. */
async function readAll(files) {
  for (let ms = 500; ; ms = Math.min(RETRY_MS_MAX, 2 * ms)) {
    try {
      return Object.assign({}, ...(await Promise.all(files.map(read))));
    } catch {
      await wait(ms * (0.5 + Math.random()));
    }
  }
}

/**
 * Uses the language asked for: `?lang=`, else the browser's. What a page says beyond the viewers' and the overlay's is
 * its own: `more.english`, and `more.files`, by language. `onLate()`: the language has come after this had returned.
 */
export async function loadTexts({ more, onLate } = {}) {
  Object.assign(inEnglish, more?.english);
  const wished = [new URLSearchParams(location.search).get("lang"), ...(navigator.languages ?? [])];
  const tag = wished.find((tag) => tag && FILES.has(base(tag))) ?? "en";
  const files = [FILES, more?.files].map((files) => files?.get(base(tag))).filter(Boolean);
  if (!files.length) return speak(tag, {});
  const spoken = readAll(files).then((loaded) => speak(tag, loaded));
  if (!(await Promise.race([spoken, wait(PATIENCE_MS).then(() => true)]))) return;
  speak("en", {});
  spoken.then(onLate);
}
