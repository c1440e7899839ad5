// What the pages use and some browser lacks that can run them. Private methods set the limit: Chrome 85, Firefox 90 and
// Safari 15 can run them, and an older browser is told so by /shared/older.js. The tests read this table, and take
// each of these away in turn.
//
// | API                            | since                               | without it                           |
// |--------------------------------|-------------------------------------|--------------------------------------|
// | AbortSignal.timeout            | Chrome 103, Firefox 100, Safari 16  | `deadline`, here                     |
// | Element.prototype.replaceChildren | Chrome 86                        | made here                            |
// | HTMLDialogElement.prototype.showModal | Firefox 98, Safari 15.4      | the browser's own question, confirm.js |
// | sessionStorage                 | not where site data is blocked      | the page's memory, kept.js           |
// | crypto.subtle                  | not without https                   | the page says that signing in failed |

/** A signal that gives a request up after some milliseconds. */
export function deadline(ms) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}

Element.prototype.replaceChildren ??= function (...children) {
  this.textContent = "";
  this.append(...children);
};
