// The control room's own texts, which viewers need not load, and its formats of times. To add a language:
// 1. text/public.<tag>.json and text/control.<tag>.json, with every key of the English files (texts.test.js checks them);
// 2. the first in `FILES` of shared/text.js, the second in `TEXTS` here.

import { formatClock, formatMoment, loadTexts } from "/shared/text.js";
import { controlEnglish } from "/text/control.en.js";
import { now } from "/shared/clock.js";

const TEXTS = { english: controlEnglish, files: new Map([["pt", "/text/control.pt.json"]]) };

/** Loads the requested language. `onLate()`: called if it loads after this has returned. */
export const loadControlTexts = ({ onLate }) => loadTexts({ more: TEXTS, onLate });

/** Returns a time; with the date if that is not today. */
export function formatWhen(ms) {
  const sameDay = new Date(ms).toDateString() === new Date(now()).toDateString();
  return sameDay ? formatClock(ms) : formatMoment(ms);
}

/** Returns a time to the second, with its zone: two versions of a field must look different. */
export function formatExact(ms) {
  return new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "long" }).format(ms);
}
