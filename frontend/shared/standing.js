// Re-exports for the control room. The viewers' page needs only feed.js.

export { followFile } from "/shared/feed.js";
