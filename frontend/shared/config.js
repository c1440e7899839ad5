// For the control room; the viewers' page loads feed.js alone.

export { config } from "/shared/feed.js";
