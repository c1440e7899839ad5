// Re-exports for the control room. The viewers' page needs only feed.js.

export { followStanding, isShown } from "/shared/feed.js";
