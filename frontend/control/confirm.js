// The dialog before irreversible actions. Its focus is on the answer that changes nothing.

import { find, setText } from "/shared/dom.js";

const dialog = find("#confirm");

/** Resolves to true if the user confirms; Escape and closing the dialog mean no. */
export function confirmed(title, text, yes) {
  if (!dialog.showModal) return Promise.resolve(window.confirm(`${title}\n\n${text}`));
  setText(find("#confirm-title"), title);
  setText(find("#confirm-text"), text);
  setText(find("#confirm-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  find("#confirm-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", function answer() {
      // A late event of the previous dialog: it is already open again.
      if (dialog.open) return;
      dialog.removeEventListener("close", answer);
      resolve(dialog.returnValue === "yes");
    });
  });
}

find("#confirm-no").addEventListener("click", () => dialog.close());
find("#confirm-yes").addEventListener("click", () => dialog.close("yes"));
