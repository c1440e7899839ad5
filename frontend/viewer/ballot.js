// A poll's ballot: its contestants, ordered by number. No update moves a button.

import { el, find, setText } from "/shared/dom.js";
import { countdown, now, statusOf } from "/shared/clock.js";
import { formatMoment, formatNumber, t } from "/shared/text.js";

const DAY_MS = 86_400_000;
const SOON_MS = 10_000;
/** With a higher limit, only the number of ballots left is shown, without boxes. */
const STUBS_MAX = 20;

export class Ballot {
  #cards = new Map();
  #status = null;

  /** `onVote(contestant)`: called for each tap. `onLookUp()`: the viewer asks what became of the votes. */
  constructor(poll, { onVote, onLookUp }) {
    this.onVote = onVote;
    this.state = el("p", { class: "state" });
    this.title = el("bdi", {});
    this.timer = el("p", { class: "timer", role: "timer" }, el("span", {}), el("span", { class: "numeral" }));
    this.head = el("header", { class: "head" }, this.state, this.timer, el("h2", {}, this.title));
    this.list = el("ul", { class: "cards" });
    this.left = el("span", {});
    this.amount = el("select", { class: "numeral", onchange: () => this.#showAmount() });
    this.amounts = el("label", { class: "amount" }, t("perTap"), this.amount);
    this.stubs = el("span", { class: "stubs", "aria-hidden": "true" });
    this.tray = el("div", { class: "tray" }, this.stubs, this.left, this.amounts);
    this.refusal = el("p", { class: "refusal" });
    this.lookup = el("button", { type: "button", class: "quiet lookup idle" }, t("lookUp"));
    this.lookup.addEventListener("click", async () => {
      this.lookup.disabled = true;
      await onLookUp();
      this.lookup.disabled = false;
    });
    this.body = el("div", { class: "ballot" }, this.list, this.tray, this.refusal, this.lookup);
    this.update(poll);
  }

  /** Shows a newer definition of the poll. */
  update(poll) {
    this.poll = poll;
    setText(this.title, poll.title);
    for (const contestant of poll.contestants) {
      const card = this.#cards.get(contestant.number) ?? this.#addCard(contestant.number);
      setText(find("bdi", card), contestant.name);
      this.#showPicture(card, contestant);
    }
    this.tray.hidden = !poll.votesPerVoter;
    this.amounts.hidden = !(poll.votesPerVoter > 1);
    this.#showAmount();
    this.tick();
  }

  #addCard(number) {
    const mark = el("span", { class: "mark numeral" }, el("span", {}, String(number)));
    mark.classList.toggle("long", number > 99);
    const name = el("span", { class: "name" }, el("b", {}, el("bdi", {})), el("span", { class: "mine" }));
    const card = el("button", { type: "button", class: "card", disabled: true });
    card.append(el("span", { class: "unseen" }), mark, name, el("span", { class: "box numeral", "aria-hidden": "true" }));
    card.addEventListener("click", () => this.onVote(number));
    this.#cards.set(number, card);
    // Ordered by number. Only new cards are inserted; existing cards are never reordered.
    const index = [...this.#cards.keys()].filter((other) => other < number).length;
    this.list.insertBefore(el("li", {}, card), this.list.children[index] ?? null);
    return card;
  }

  #showPicture(card, { number, imageUrl }) {
    const mark = find(".mark", card);
    const current = find("img", mark);
    if ((current?.getAttribute("src") ?? null) === imageUrl) return;
    const showNumber = () => mark.replaceChildren(el("span", {}, String(number)));
    if (!imageUrl) return showNumber();
    const picture = el("img", { src: imageUrl, alt: "", decoding: "async", loading: "lazy", referrerpolicy: "no-referrer" });
    picture.addEventListener("error", showNumber);
    mark.replaceChildren(picture, el("span", { class: "pictured" }, String(number)));
  }

  /** Updates status and countdown, and returns the status. Called once a second. */
  tick(certificate = null) {
    const status = certificate ? "certified" : statusOf(this.poll);
    if (status !== this.#status) {
      this.#status = status;
      this.state.className = `state ${status}`;
      setText(this.state, t(`state.${status}`));
      for (const control of [...this.#cards.values(), this.amount]) control.disabled = status !== "open";
    }
    const [label, number] = this.timer.children;
    if (certificate) {
      setText(number, "");
      setText(label, formatMoment(Date.parse(certificate.certifiedAt)));
      return status;
    }
    const until = Date.parse(status === "scheduled" ? this.poll.opensAt : this.poll.closesAt);
    const left = until - now();
    const verb = status === "scheduled" ? "opens" : "closes";
    const isNear = left > 0 && left < DAY_MS;
    setText(number, isNear ? countdown(until) : "");
    this.timer.classList.toggle("soon", isNear && left <= SOON_MS);
    if (Number.isNaN(until)) setText(label, "");
    else if (isNear) setText(label, t(`bell.${verb}`));
    else setText(label, t(left > 0 ? `bell.${verb}At` : "bell.closed", { when: formatMoment(until) }));
    return status;
  }

  /** Shows the voter's own votes. `used`: the ballots presumed used. */
  showVotes(votes, used) {
    for (const [number, card] of this.#cards) {
      const own = votes.filter((vote) => vote.contestant === number);
      const count = (state) => own.reduce((sum, vote) => sum + (vote.state === state ? vote.count : 0), 0);
      const states = ["waiting", "sent", "counted", "refused"].filter(count);
      const line = find(".mine", card);
      const form = states.length === 1 ? "mine" : "few";
      setText(line, states.map((state) => t(`${form}.${state}`, { n: count(state) })).join(" · "));
      line.className = `mine ${states.length === 1 ? states[0] : ""}`;
      if (states.length) card.dataset.cast = states[0];
      else delete card.dataset.cast;
    }
    this.lookup.classList.toggle("idle", !votes.some(({ state }) => state === "sent"));
    this.#showLeft(used);
  }

  /** Shows why the last vote was refused: below the cards, so that none moves. */
  showRefusal(text) {
    setText(this.refusal, text);
  }

  /** Returns how many votes a tap gives, which is one again after it. */
  takeAmount() {
    const amount = Number(this.amount.value) || 1;
    this.amount.value = 1;
    this.#showAmount();
    return amount;
  }

  #showAmount() {
    const n = Number(this.amount.value) || 1;
    for (const card of this.#cards.values()) {
      setText(find(".unseen", card), t("castFor", { n }));
      setText(find(".box", card), n > 1 ? `+${n}` : "");
    }
  }

  /** Offers to give up to `left` votes with one tap. */
  #showAmounts(left) {
    this.amounts.classList.toggle("idle", left < 2);
    if (this.amount.children.length === left) return;
    const { value } = this.amount;
    this.amount.replaceChildren(...Array.from({ length: left }, (_, i) => el("option", { value: i + 1 }, formatNumber(i + 1))));
    this.amount.value = Math.min(value || 1, left);
    this.#showAmount();
  }

  #showLeft(used) {
    const limit = this.poll.votesPerVoter;
    this.list.classList.toggle("spent", Boolean(limit && used.size >= limit));
    if (!limit) return;
    const left = Math.max(0, limit - used.size);
    if (!used.size) setText(this.left, t("allowed", { n: limit }));
    else setText(this.left, left ? t("left", { n: left, limit }) : t("allUsed"));
    this.#showAmounts(left);
    const stubs = limit > STUBS_MAX ? 0 : limit;
    if (this.stubs.children.length !== stubs) {
      this.stubs.replaceChildren(...Array.from({ length: stubs }, () => el("i")));
    }
    [...this.stubs.children].forEach((stub, index) => stub.classList.toggle("used", index >= left));
  }
}
