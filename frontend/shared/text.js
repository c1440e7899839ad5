// The pages' texts. English is part of the page; other languages are files in /text/, and English replaces them until
// they have loaded. To add a language: see control/texts.js.

import { setText } from "/shared/dom.js";
import { deadline } from "/shared/fallbacks.js";
import { english } from "/text/public.en.js";

const FILES = new Map([["en", null], ["pt", "/text/public.pt.json"]]);
const TIMEOUT_MS = 10_000;
/** The wait for a language before English is shown. */
const WAIT_MS = 4_000;
const RETRY_MS_MAX = 60_000;

const englishTexts = { ...english };
let translated = {};
let plural, number, share, clock, moment, list;

function setLocale(tag) {
  plural = new Intl.PluralRules(tag);
  number = new Intl.NumberFormat(tag);
  share = new Intl.NumberFormat(tag, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  clock = new Intl.DateTimeFormat(tag, { timeStyle: "medium" });
  moment = new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "short" });
  list = new Intl.ListFormat(tag);
  document.documentElement.lang = tag;
}
setLocale("en");

export const formatNumber = (value) => number.format(value);
export const formatShare = (value) => share.format(value);
export const formatClock = (ms) => clock.format(ms);
export const formatMoment = (ms) => moment.format(ms);
export const formatList = (names) => list.format(names);

/** Returns a key's text. `{name}` in it stands for a value; `n` selects the plural form. */
export function t(key, values = {}) {
  let text = translated[key] ?? englishTexts[key];
  if (text && typeof text === "object") text = text[plural.select(values.n)] ?? text.other;
  return (text ?? key).replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? formatNumber(values[name]) : values[name] ?? "",
  );
}

/** Returns the language of a tag such as `pt-BR`. */
const base = (tag) => tag.split("-")[0].toLowerCase();

/** Sets the texts of `data-t` and the labels of `data-t-label`. Numbers follow the region. */
function apply(tag, loaded) {
  try {
    setLocale(tag);
  } catch {
    // `?lang=` may hold an invalid tag.
    setLocale(base(tag));
  }
  translated = loaded;
  document.documentElement.dir = t("direction");
  for (const element of document.querySelectorAll("[data-t]")) setText(element, t(element.dataset.t));
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

/** Retries until all have loaded. */
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
 * Loads the requested language: `?lang=`, else the browser's. `more`: the page's own texts, `english`, and `files` by
 * language. `onLate()`: called if the language loads after this has returned.
 */
export async function loadTexts({ more, onLate } = {}) {
  Object.assign(englishTexts, more?.english);
  const requested = [new URLSearchParams(location.search).get("lang"), ...(navigator.languages ?? [])];
  const tag = requested.find((tag) => tag && FILES.has(base(tag))) ?? "en";
  const files = [FILES, more?.files].map((files) => files?.get(base(tag))).filter(Boolean);
  if (!files.length) return apply(tag, {});
  const applied = readAll(files).then((loaded) => apply(tag, loaded));
  if (!(await Promise.race([applied, wait(WAIT_MS).then(() => true)]))) return;
  apply("en", {});
  applied.then(onLate);
}
