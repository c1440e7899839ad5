// What the pages say, in the viewer's language: one file for each in /text/. The pages' own markup is in English.

import { say } from "/shared/dom.js";

const FILES = { en: "/text/en.json", pt: "/text/pt.json" };

let words = {};
let plural = new Intl.PluralRules("en");

/** The language in use, as the browser names it: numbers and times follow its region. */
export let language = "en";

let number, share, clock, moment;

function use(tag) {
  language = tag;
  plural = new Intl.PluralRules(tag);
  number = new Intl.NumberFormat(tag);
  share = new Intl.NumberFormat(tag, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  clock = new Intl.DateTimeFormat(tag, { timeStyle: "medium" });
  moment = new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "short" });
}
use("en");

export const formatNumber = (value) => number.format(value);
export const formatShare = (value) => share.format(value);
export const formatClock = (ms) => clock.format(ms);
export const formatMoment = (ms) => moment.format(ms);

/** The text of a key; `{name}` in it stands for a value, and `n` chooses between its plural forms. */
export function t(key, values = {}) {
  let text = words[key];
  if (text && typeof text === "object") text = text[plural.select(values.n)] ?? text.other;
  return (text ?? key).replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? formatNumber(values[name]) : values[name] ?? "",
  );
}

/** Loads the texts of the language asked for: `?lang=`, else the browser's. */
export async function loadTexts() {
  const wished = [new URLSearchParams(location.search).get("lang"), ...navigator.languages, "en"];
  const tag = wished.find((tag) => tag && FILES[tag.split("-")[0]]);
  const response = await fetch(FILES[tag.split("-")[0]]);
  if (!response.ok) throw new Error(`texts: ${response.status}`);
  words = await response.json();
  use(tag);
  document.documentElement.lang = tag;
  document.documentElement.dir = words.direction;
  translate(document);
}

/** Puts texts into what is marked up with `data-t`, and into labels with `data-t-label`. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) say(element, t(element.dataset.t));
  for (const element of root.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
}

/** Adds texts that one page alone has. */
export function addWords(more) {
  words = { ...words, ...more };
}
