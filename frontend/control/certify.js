// Certification by hand, the certificate, and late votes: those that arrived after it.

import { announce, el, find, setText } from "/shared/dom.js";
import { ApiError, call } from "/control/api.js";
import { confirmed } from "/control/confirm.js";
import { formatMoment, t } from "/shared/text.js";
import { formatWhen } from "/control/texts.js";

export class Certification {
  #late = { votes: 0 };
  #paths = [];
  #included = 0;

  /**
   * `desk`: the `Desk` of the poll. `canCertify`: whether the backend offers it. `onCertified()`: the result is final. Once
   * the votes of a certified result are recounted, it `isComplete`.
   */
  constructor(desk, { canCertify, onCertified }) {
    Object.assign(this, { desk, onCertified, certified: false, isComplete: false });
    const button = (id, onclick, text) => el("button", { type: "button", id, onclick }, text);
    if (canCertify) this.button = button("certify", () => this.#certify(), t("control.certify"));
    this.certificate = el("p", { class: "certificate", id: "certificate", role: "status", hidden: true });
    this.lateText = el("p", { role: "status" });
    this.again = button("certify-late", () => this.#certifyLate(), t("control.certifyLate"));
    this.later = el("ul", { id: "later-certificates" });
    this.late = el("div", { class: "late", id: "late", hidden: true }, this.lateText, this.again, this.later);
  }

  tick() {
    if (this.button) this.button.hidden = this.desk.state !== "closed";
  }

  /** Shows the data of the poll's file. */
  take({ certificate, turnout, late, laterCertificates = [] }) {
    if (certificate && !this.isComplete) this.#show({ ...certificate, ...turnout });
    if (late) this.#takeLate(late);
    const last = laterCertificates[laterCertificates.length - 1];
    if (last && laterCertificates.length > this.#paths.length) {
      this.#paths = laterCertificates;
      this.#readCertificate(last);
    }
    this.#showLate();
  }

  /** Shows the late votes of the live figures, which the file has later. */
  takeLive({ rejected }) {
    if (!this.certified || !(rejected.late > this.#late.votes)) return;
    this.#takeLate({ votes: rejected.late });
    this.#showLate();
  }

  #takeLate(late) {
    if (late.votes >= this.#late.votes) this.#late = { ...this.#late, ...late };
  }

  /** Reads the number of late votes that the latest certificate includes. */
  async #readCertificate(path) {
    const response = await fetch(path, { cache: "no-cache" }).catch(() => null);
    const document = response?.ok ? await response.json().catch(() => null) : null;
    if (document) this.#takeDocument(document);
  }

  #takeDocument({ late }) {
    this.#included = Math.max(this.#included, late?.votes ?? 0);
    this.#showLate();
  }

  /** Shows the certificate. Voters, digest and recount come later. */
  #show({ certifiedAt, basis, votes, voters, digest, recount }) {
    this.certified = true;
    this.isComplete = Boolean(digest);
    const when = formatMoment(Date.parse(certifiedAt));
    const key = basis === "forced" ? "control.certifiedForced" : "control.certified";
    const differs = recount === "different" ? `${t("control.recountDiffers")} ` : "";
    const supplement = digest ? differs + t("control.recounted", { n: voters, digest }) : t("control.recounting");
    setText(this.certificate, `${t(key, { when, n: votes })} ${supplement}`);
    this.certificate.classList.toggle("wrong", Boolean(differs));
    this.certificate.hidden = false;
    this.onCertified();
  }

  #showLate() {
    const { votes: n, firstAt, lastAt } = this.#late;
    this.late.hidden = !n;
    const [from, to] = [firstAt, lastAt].map((at) => (at ? formatWhen(Date.parse(at)) : ""));
    const between = from ? t("control.lateBetween", { from, to }) : "";
    setText(this.lateText, n ? `${t("control.late", { n })} ${between}`.trim() : "");
    this.again.hidden = !n || this.#included >= n;
    if (this.later.children.length === this.#paths.length) return;
    this.later.replaceChildren(...this.#paths.map((path, i) => {
      return el("li", {}, el("a", { href: path, rel: "noreferrer" }, t("control.laterCertificate", { number: i + 2 })));
    }));
  }

  /** Certifies. If votes may be outstanding, asks a second time, with the reason. */
  async #certify() {
    const name = t("control.certify");
    if (!(await confirmed(name, t("control.certifyText"), name))) return;
    const { version } = this.desk;
    const done = await this.desk.attempt(async () => {
      try {
        return await this.#request({}, version);
      } catch (error) {
        if (!(error instanceof ApiError) || error.code !== "votesOutstanding") throw error;
        const text = `${t("control.outstanding")} ${this.desk.live.waitsFor} ${t("control.forceText")}`;
        if (!(await confirmed(t("control.force"), text, t("control.force")))) return false;
        return this.#request({ force: true }, version);
      }
    });
    if (done) announce(t("state.certified"));
  }

  async #request(options, version) {
    const { certificate } = await call("POST", `${this.desk.path}/certify`, options, version);
    this.#show(certificate);
    return true;
  }

  async #certifyLate() {
    const name = t("control.certifyLate");
    if (!(await confirmed(name, t("control.certifyLateText", { n: this.#late.votes }), name))) return;
    const issued = await this.desk.attempt(() => call("POST", `${this.desk.path}/certify`, { includeLate: true }));
    if (!issued) return;
    this.#paths = [...this.#paths, `/results/${issued.poll}.certificate-${issued.number}.json`];
    this.#takeDocument(issued);
    announce(t("control.certifiedLate", { number: issued.number }));
    find("li:last-child a", this.later)?.focus();
  }
}
