// What the pages use and some browser lacks that can run them. Private methods set the limit: Chrome 85, Firefox 90 and
// Safari 15 can run them. An older one leaves the words standing that the viewers' markup begins with; on the desk
// older.js tells. The tests read this table, and take each of these away in turn.
//
// | API                                   | since                              | without it                            |
// |---------------------------------------|------------------------------------|---------------------------------------|
// | AbortSignal.timeout                   | Chrome 103, Firefox 100, Safari 16 | `deadline`, here                      |
// | Element.prototype.replaceChildren     | Chrome 86                          | made here                             |
// | HTMLDialogElement.prototype.showModal | Firefox 98, Safari 15.4            | the browser's own question, confirm.js |
// | sessionStorage                        | not where site data is blocked     | the page's memory, here               |
// | crypto.subtle                         | not without https                  | the page says that signing in failed  |

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

// What a page keeps in its tab, over reloads and the way to the issuer and back. A browser that keeps nothing for the
// page (site data blocked, a sandboxed frame) throws at the first touch: then it is kept until the page ends.

const memory = new Map();
let storage = { getItem: (name) => memory.get(name) ?? null, setItem: (name, text) => memory.set(name, text) };

/** Whether what is kept outlives the page. */
export let lasting = false;

try {
  sessionStorage.setItem("kept", "null");
  storage = sessionStorage;
  lasting = true;
} catch {}

/** What was kept under a name, or null. */
export const recall = (name) => JSON.parse(storage.getItem(name));

/** Keeps a value that JSON can hold. Where the tab's room is used up, the page goes on with what it has. */
export function keep(name, value) {
  try {
    storage.setItem(name, JSON.stringify(value));
  } catch {}
}
