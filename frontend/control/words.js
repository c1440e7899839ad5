// The control room's own texts, which viewers need not load, and how it writes moments.

import { addWords, formatClock, formatMoment, loadTexts, translate } from "/shared/text.js";
import { controlEnglish } from "/text/control.en.js";
import { now } from "/shared/clock.js";

/** English is in the page. */
const FILES = { pt: "/text/control.pt.json" };

/** Loads the texts; English stands where another language cannot be had. */
export async function loadWords() {
  addWords(controlEnglish);
  await loadTexts().catch(() => {});
  addWords(controlEnglish);
  const file = FILES[document.documentElement.lang.split("-")[0]];
  const response = file ? await fetch(file).catch(() => null) : null;
  if (response?.ok) addWords(await response.json());
  translate(document);
}

/** A moment as it is said: of this day its time alone. */
export function formatWhen(ms) {
  const sameDay = new Date(ms).toDateString() === new Date(now()).toDateString();
  return sameDay ? formatClock(ms) : formatMoment(ms);
}

/** A moment to the second, with its zone: two versions of one must look different. */
export function formatExact(ms) {
  return new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "long" }).format(ms);
}
