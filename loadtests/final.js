// The opening minute of a final: a million viewers, of whom a tenth votes in both polls within 45 s. That makes some 230,000
// requests, 5,100 a second, of which the gateway takes 9,000. Checks what ./show.js checks, but for the close.
//
// VIEWERS, SCALE: see ./crowd.js. TAP_SECONDS: they vote within this time after their page shows the poll.

import { Crowd } from "./crowd.js";

const crowd = new Crowd({ viewers: 1_000_000, scale: 300, tapping: 1 / 10, tapSeconds: 45, closeSeconds: null });

export const options = crowd.options();
export const setup = () => crowd.setup();
export const watch = (data) => crowd.watch(data);
export const direct = (data) => crowd.direct(data);
export const teardown = (data) => crowd.teardown(data);
