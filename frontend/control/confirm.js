// Asks before what cannot be taken back. The answer that changes nothing has the keyboard.

import { find, say } from "/shared/dom.js";

const dialog = find("#confirm");

/** True if the person says so in the dialog; Escape and closing it say no. */
export function confirmed(title, text, yes) {
  if (!dialog.showModal) return Promise.resolve(window.confirm(`${title}\n\n${text}`));
  say(find("#confirm-title"), title);
  say(find("#confirm-text"), text);
  say(find("#confirm-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  find("#confirm-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", function answer() {
      // Told late: of the time before, when this dialog has been opened again already.
      if (dialog.open) return;
      dialog.removeEventListener("close", answer);
      resolve(dialog.returnValue === "yes");
    });
  });
}

find("#confirm-no").addEventListener("click", () => dialog.close());
find("#confirm-yes").addEventListener("click", () => dialog.close("yes"));
