// The opening minute of a final: a million viewers, of whom an eighth votes in both polls within 45 s, which is as much as
// the gateway takes: 280,000 requests, at most 9,000 a second. Checks what ./show.js checks, but for the close.
//
// VIEWERS, SCALE: see ./crowd.js. TAP_SECONDS: they vote within this time after their page shows the poll.

import { Crowd } from "./crowd.js";

const crowd = new Crowd({ viewers: 1_000_000, scale: 200, tapping: 1 / 8, tapSeconds: 45, closeSeconds: null });

export const options = crowd.options();
export const setup = () => crowd.setup();
export const watch = (data) => crowd.watch(data);
export const direct = (data) => crowd.direct(data);
export const teardown = (data) => crowd.teardown(data);
