// How often viewers' pages request a poll's file, and what that costs.

import { t } from "/shared/text.js";

/** USD for a million viewers, an hour, as in docs/OPERATIONS.md; scripts/cost.py checks these figures. */
const USD = { "auto": 660, "3": 1830, "5": 1140, "10": 620 };

export const PACES = ["auto", 3, 5, 10];

/** Returns the text of a pace, with its cost. */
export function paceText(pace) {
  return t(pace === "auto" ? "control.pace.auto" : "control.pace.fixed", { n: pace, usd: USD[pace] });
}
