// The APIs that a browser may lack although it can run the pages. Private methods set the minimum: Chrome 85, Firefox 90
// and Safari 15. In an older browser the initial text of the viewers' markup stays; in the control room unsupported.js
// shows a message. The tests read this table, and remove each API in turn.
//
// | API                                   | since                              | without it                             |
// |---------------------------------------|------------------------------------|----------------------------------------|
// | AbortSignal.timeout                   | Chrome 103, Firefox 100, Safari 16 | `deadline`, below                      |
// | Element.prototype.replaceChildren     | Chrome 86                          | polyfill in dom.js                     |
// | HTMLDialogElement.prototype.showModal | Firefox 98, Safari 15.4            | `window.confirm`, confirm.js           |
// | sessionStorage                        | unless site data is blocked        | memory, session.js                     |
// | crypto.subtle                         | only with https                    | the page says that signing in failed   |

/** Replaces `AbortSignal.timeout`, which some phones lack. */
export function deadline(ms) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}
