// Compares ledger, tally and ranking, rebuilds tally and ranking from the ledger, and exports a certified poll's votes.

import { call } from "/control/api.js";
import { confirmed } from "/control/confirm.js";
import { el, setText } from "/shared/dom.js";
import { formatNumber, t } from "/shared/text.js";

export class Audit {
  /** `desk`: the `Desk` of the poll. `canExport`: whether the backend offers exports. */
  constructor(desk, { canExport }) {
    this.desk = desk;
    this.verdict = el("p", { class: "verdict", id: "verdict", role: "status" }, t("control.unaudited"));
    const button = (id, onclick) => el("button", { type: "button", id, onclick }, t(`control.${id}`));
    this.buttons = [button("audit", () => this.#audit("GET")), button("rebuild", () => this.#rebuild())];
    if (canExport) this.buttons.push(button("export", () => this.#export()));
  }

  async #rebuild() {
    const name = t("control.rebuild");
    if (await confirmed(name, t("control.rebuildText"), name)) await this.#audit("POST");
  }

  async #audit(method) {
    setText(this.verdict, t("control.auditing"));
    const path = `${this.desk.path}/${method === "GET" ? "audit" : "rebuild"}`;
    const audit = await this.desk.attempt(() => call(method, path));
    this.verdict.classList.toggle("wrong", Boolean(audit) && !audit.inSync);
    if (!audit) return setText(this.verdict, t("control.unaudited"));
    const { ledgerVotes, tallyVotes, rankingVotes } = audit;
    const values = { n: ledgerVotes, tally: tallyVotes, ranking: rankingVotes };
    setText(this.verdict, t(audit.inSync ? "control.inSync" : "control.outOfSync", values));
  }

  async #export() {
    const name = t("control.export");
    if (!(await confirmed(name, t("control.exportText"), name))) return;
    const answer = await this.desk.attempt(() => call("POST", `${this.desk.path}/export`));
    if (!answer) return;
    const { status, votes, totalVotes, failure, url } = answer;
    const figures = { votes: formatNumber(votes), total: formatNumber(totalVotes ?? 0), failure };
    setText(this.verdict, t(`control.export${status[0].toUpperCase()}${status.slice(1)}`, figures));
    if (url) this.verdict.append(" ", el("a", { href: url, rel: "noreferrer" }, t("control.exportLink")));
  }
}
