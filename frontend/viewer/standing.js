// How a poll stands: rows that glide to their rank. Nothing here is for tapping, so it may move.

import { el, find, glide, roll, say } from "/shared/dom.js";
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
    this.seal = el("details", { class: "seal", hidden: true }, el("summary", {}), "SHA-256 ", el("code", {}));
    const id = `standing-${poll.id}`;
    this.element = el(
      "section",
      { class: "standing", "aria-labelledby": id },
      el("h3", { id }, this.heading),
      this.list,
      el("div", { class: "below" }, this.total, this.pending, this.seal),
    );
    // Its room from the start: what arrives later must not push anything.
    this.list.style.setProperty("--rows", Math.min(ROWS_MAX, poll.contestants.length));
    this.title("standing");
  }

  /** `standing`, `result`, or `state.certified`. */
  title(key) {
    say(this.heading, t(key));
  }

  /** The ranking contract, or a poll's file, in which the ranking may be missing: `why` then says the reason. */
  show(body, why) {
    say(this.pending, body.certified === false && body.status === "closed" ? t("unconfirmed") : "");
    if (body.certificate) this.#certify(body.certificate);
    if (!body.ranking) return this.withhold(why, body);
    if (find(".withheld", this.list)) this.list.replaceChildren();
    const shown = body.ranking.slice(0, ROWS_MAX);
    glide(this.list, () => {
      const rows = shown.map((entry) => this.#row(entry));
      const same = rows.length === this.list.children.length && rows.every((row, i) => this.list.children[i] === row);
      if (!same) this.list.replaceChildren(...rows);
    });
    const most = Math.max(1, shown[0]?.votes ?? 1);
    for (const entry of shown) this.#fill(this.#rows.get(entry.contestant), entry, most);
    this.#count(body, body.totalVotes);
    if (body.certificate) this.#announceResult(body.ranking);
    else this.#announce(shown);
  }

  /** What is shown where there is no standing to show. */
  withhold(why, body = null) {
    if (!find(".withheld", this.list)) {
      this.#rows.clear();
      this.list.replaceChildren(el("li", { class: "withheld" }));
    }
    say(find(".withheld", this.list), t(`withheld.${why}`));
    if (body?.turnout) this.#count(body, body.turnout.votes);
    else say(this.total, "");
  }

  #count(body, votes) {
    const parts = [t("total", { n: votes, when: formatClock(Date.parse(body.asOf)) })];
    if (body.turnout?.voters != null) {
      const { voters: n, votersError: error } = body.turnout;
      parts.push(error ? t("turnoutAbout", { n, error: formatShare(error) }) : t("turnout", { n }));
    }
    say(this.total, parts.join(" · "));
  }

  /** What makes the result final, for whoever wants to check it. */
  #certify({ certifiedAt, basis, digest }) {
    this.seal.hidden = false;
    const [when, code] = this.seal.children;
    say(when, t(`sealed.${basis === "forced" ? "forced" : "all"}`, { when: formatMoment(Date.parse(certifiedAt)) }));
    // In groups, so that it may be read out, and breaks where there is little room.
    say(code, digest.match(/.{8}/g).join(" "));
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

  #fill(row, { rank, name, votes, share }, most) {
    row.dataset.rank = votes ? rank : "";
    say(find(".rank", row), votes ? formatNumber(rank) : "–");
    say(find("bdi", row), name);
    say(find(".share", row), formatShare(share));
    roll(find(".votes", row), votes, formatNumber);
    find(".bar", row).style.transform = `scaleX(${votes / most})`;
  }

  /** Everybody who shares the first rank, which takes a vote. */
  #announceResult(ranking) {
    const first = ranking.filter(({ rank, votes }) => rank === 1 && votes);
    const names = formatList(first.map(({ name }) => name));
    this.announce(t(first.length ? "said.certified" : "said.certifiedNobody", { n: first.length, names }));
  }

  /** Who has risen, now and then: a reader who is interrupted every 3 s hears nothing. */
  #announce(entries) {
    const risen = entries.filter(({ contestant, rank }) => rank < (this.#ranks.get(contestant) ?? 0));
    if (risen.length && performance.now() - this.#announcedAt < ANNOUNCE_MS) return;
    for (const { contestant, rank } of entries) this.#ranks.set(contestant, rank);
    if (!risen.length) return;
    this.#announcedAt = performance.now();
    const texts = risen.slice(0, ANNOUNCED_MAX).map(({ name, rank }) => t("moved", { name, rank: t("rank", { n: rank }) }));
    this.announce(texts.join(" "));
  }
}
