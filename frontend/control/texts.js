// The control room's own texts, which viewers need not load, and how it writes moments.

import { formatClock, formatMoment, loadTexts } from "/shared/text.js";
import { controlEnglish } from "/text/control.en.js";
import { now } from "/shared/clock.js";

const TEXTS = { english: controlEnglish, files: new Map([["pt", "/text/control.pt.json"]]) };

/** Uses the language asked for. `onLate()`: it has come after this had returned. */
export const loadWords = ({ onLate }) => loadTexts({ more: TEXTS, onLate });

/** A moment as it is said: of this day its time alone. */
export function formatWhen(ms) {
  const sameDay = new Date(ms).toDateString() === new Date(now()).toDateString();
  return sameDay ? formatClock(ms) : formatMoment(ms);
}

/** A moment to the second, with its zone: two versions of one must look different. */
export function formatExact(ms) {
  return new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "long" }).format(ms);
}
