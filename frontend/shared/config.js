// Re-exports for the control room. The viewers' page needs only feed.js.

export { config } from "/shared/feed.js";
