// A show: 60,000 viewers, all of whom vote in both polls, and a crew that closes the polls under them. Checks that each
// accepted vote is counted or rejected as too late; that no vote cast before the close was rejected, and none after it
// counted; and that each page gets the certified file, with the same figures, within a minute of the close.
//
// VIEWERS, SCALE: see ./crowd.js. TAP_SECONDS: everyone votes within this time after their page shows the poll; 60,000
// viewers send some 135,000 requests, of which the gateway takes 9,000 a second. CLOSE_SECONDS: from opening to close.

import { Crowd } from "./crowd.js";

const crowd = new Crowd({ viewers: 60_000, scale: 50, tapping: 1, tapSeconds: 20, closeSeconds: 75 });

export const options = crowd.options();
export const setup = () => crowd.setup();
export const watch = (data) => crowd.watch(data);
export const direct = (data) => crowd.direct(data);
export const teardown = (data) => crowd.teardown(data);
