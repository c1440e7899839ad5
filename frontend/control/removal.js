// Withdrawing a contestant, archiving a poll, deleting a poll.

import { announce } from "/shared/dom.js";
import { call } from "/control/api.js";
import { confirmed } from "/control/confirm.js";
import { t } from "/shared/text.js";

/** Withdraws a contestant: votes cast from now on do not count. */
export async function withdraw(desk, number, name) {
  const title = t("control.withdraw");
  if (!(await confirmed(title, t("control.withdrawText", { name, number: String(number) }), title))) return;
  if (!(await desk.attempt(() => call("POST", `${desk.path}/withdraw`, { contestant: number })))) return;
  await desk.refresh();
  announce(t("control.withdrawnNow", { name }));
}

/** Archives a closed poll: it leaves the list, and its file stays. */
export async function archive(desk) {
  const name = t("control.archive");
  if (!(await confirmed(name, t("control.archiveText"), name))) return;
  if (!(await desk.attempt(() => call("POST", `${desk.path}/archive`)))) return;
  await desk.refresh();
  announce(t("control.archivedNow"));
}

/** Deletes a poll that has never been open; resolves to whether it was deleted. */
export async function remove(desk) {
  const name = t("control.delete");
  if (!(await confirmed(name, t("control.deleteText", { title: desk.poll.title }), name))) return false;
  return Boolean(await desk.attempt(() => call("DELETE", desk.path, undefined, desk.version).then(() => true)));
}
