// A poll's standing. Its rows may move, since none is a button.

import { el, find, glide, roll, setText } from "/shared/dom.js";
import { formatClock, formatList, formatMoment, formatNumber, formatShare, t } from "/shared/text.js";

const ROWS_MAX = 12;
const ANNOUNCED_MAX = 3;
const ANNOUNCE_MS = 10_000;

export class Standing {
  #rows = new Map();
  #ranks = new Map();
  #announcedAt = -Infinity;

  /** `announce(text)`: for screen readers. */
  constructor(poll, announce) {
    this.announce = announce;
    this.heading = el("span", {});
    this.list = el("ol", { class: "rows" });
    this.total = el("p", { class: "total" });
    this.pending = el("p", {});
    this.certificate = el("details", { class: "certificate", hidden: true }, el("summary", {}), el("span", {}), el("code", {}));
    const id = `standing-${poll.id}`;
    this.element = el(
      "section",
      { class: "standing", "aria-labelledby": id },
      el("h3", { id }, this.heading),
      this.list,
      el("div", { class: "below" }, this.total, this.pending, this.certificate),
    );
    // Reserves the height, so that later rows push nothing.
    this.list.style.setProperty("--rows", Math.min(ROWS_MAX, poll.contestants.length));
    this.setTitle("standing");
  }

  /** `key`: `standing`, `result` or `state.certified`. */
  setTitle(key) {
    setText(this.heading, t(key));
  }

  /** Shows a poll's file. `reason`: why its ranking is missing, if it is. */
  show(body, reason) {
    const isDifferent = body.certificate?.recount === "different";
    const isUnconfirmed = !body.certified && body.status === "closed";
    setText(this.pending, isDifferent ? t("recountDiffers") : isUnconfirmed ? t("unconfirmed") : "");
    if (body.certificate) this.#showCertificate(body.certificate);
    if (!body.ranking) return this.withhold(reason, body);
    if (find(".withheld", this.list)) this.list.replaceChildren();
    const shown = body.ranking.slice(0, ROWS_MAX);
    glide(this.list, () => {
      const rows = shown.map((entry) => this.#row(entry));
      const same = rows.length === this.list.children.length && rows.every((row, i) => this.list.children[i] === row);
      if (!same) this.list.replaceChildren(...rows);
    });
    const max = shown[0]?.votes || 1;
    for (const entry of shown) this.#fill(this.#rows.get(entry.contestant), entry, max);
    this.#count(body);
    if (body.certificate) this.#announceResult(body.ranking);
    else this.#announceRisen(shown);
  }

  /** Shows why there is no standing. */
  withhold(reason, body = null) {
    if (!find(".withheld", this.list)) {
      this.#rows.clear();
      this.list.replaceChildren(el("li", { class: "withheld" }));
    }
    setText(find(".withheld", this.list), t(`withheld.${reason}`));
    if (body) this.#count(body);
    else setText(this.total, "");
  }

  #count({ asOf, turnout: { votes, voters: n, votersError: error } }) {
    const parts = [t("total", { n: votes, when: formatClock(Date.parse(asOf)) })];
    if (n != null) {
      parts.push(error ? t("turnoutAbout", { n, error: formatShare(error) }) : t("turnout", { n }));
    }
    setText(this.total, parts.join(" · "));
  }

  /** Shows the certificate, for verification. The digest comes with the recount. */
  #showCertificate({ certifiedAt, basis, digest }) {
    this.certificate.hidden = false;
    const [when, label, code] = this.certificate.children;
    setText(when, t(`sealed.${basis === "forced" ? "forced" : "all"}`, { when: formatMoment(Date.parse(certifiedAt)) }));
    setText(label, digest ? "SHA-256 " : t("recounting"));
    // Groups can be read aloud, and wrap.
    setText(code, digest ? digest.match(/.{8}/g).join(" ") : "");
  }

  #row({ contestant }) {
    const known = this.#rows.get(contestant);
    if (known) return known;
    const row = el(
      "li",
      { class: "row" },
      el("span", { class: "rank numeral" }),
      el("span", { class: "who" }, el("bdi", {})),
      el("span", { class: "figures" }, el("span", { class: "votes numeral" }), el("span", { class: "share" })),
      el("span", { class: "bar", "aria-hidden": "true" }),
    );
    this.#rows.set(contestant, row);
    return row;
  }

  #fill(row, { rank, name, votes, share }, max) {
    row.dataset.rank = votes ? rank : "";
    setText(find(".rank", row), votes ? formatNumber(rank) : "–");
    setText(find("bdi", row), name);
    setText(find(".share", row), formatShare(share));
    roll(find(".votes", row), votes, formatNumber);
    find(".bar", row).style.transform = `scaleX(${votes / max})`;
  }

  /** Announces the first place, which requires a vote. */
  #announceResult(ranking) {
    const first = ranking.filter(({ rank, votes }) => rank === 1 && votes);
    const names = formatList(first.map(({ name }) => name));
    this.announce(t(first.length ? "said.certified" : "said.certifiedNobody", { n: first.length, names }));
  }

  /** Announces risen contestants, at most every 10 s: more often would interrupt the screen reader. */
  #announceRisen(entries) {
    const risen = entries.filter(({ contestant, rank }) => rank < (this.#ranks.get(contestant) ?? 0));
    if (risen.length && performance.now() - this.#announcedAt < ANNOUNCE_MS) return;
    for (const { contestant, rank } of entries) this.#ranks.set(contestant, rank);
    if (!risen.length) return;
    this.#announcedAt = performance.now();
    const texts = risen.map(({ name, rank }) => t("moved", { name, rank: t("rank", { n: rank }) }));
    this.announce(texts.slice(0, ANNOUNCED_MAX).join(" "));
  }
}
