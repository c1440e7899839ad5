// What the pages use and some browser lacks that can run them. Private methods set the limit: Chrome 85, Firefox 90 and
// Safari 15 can run them. An older one leaves the words standing that the viewers' markup begins with; on the desk
// older.js tells. The tests read this table, and take each of these away in turn.
//
// | API                                   | since                              | without it                             |
// |---------------------------------------|------------------------------------|----------------------------------------|
// | AbortSignal.timeout                   | Chrome 103, Firefox 100, Safari 16 | `deadline`, feed.js                    |
// | Element.prototype.replaceChildren     | Chrome 86                          | made in dom.js                         |
// | HTMLDialogElement.prototype.showModal | Firefox 98, Safari 15.4            | the browser's own question, confirm.js |
// | sessionStorage                        | not where site data is blocked     | the page's memory, session.js          |
// | crypto.subtle                         | not without https                  | the page says that signing in failed   |

export { deadline } from "/shared/feed.js";
