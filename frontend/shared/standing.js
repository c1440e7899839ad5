// For the control room; the viewers' page loads feed.js alone.

export { followStanding, isShown } from "/shared/feed.js";
