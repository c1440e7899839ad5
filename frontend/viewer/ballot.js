// The ballot of one poll: its contestants in the order of their numbers. Nothing that comes later moves a button.

import { el, find, say } from "/shared/dom.js";
import { countdown, now, statusOf } from "/shared/clock.js";
import { formatMoment, t } from "/shared/text.js";

const DAY_MS = 86_400_000;
const SOON_MS = 10_000;
/** The boxes of more ballots than these say less than their number. */
const STUBS_MAX = 20;

export class Ballot {
  #cards = new Map();
  #status = null;

  /** `onVote(contestant)`: a tap. */
  constructor(poll, onVote) {
    this.onVote = onVote;
    this.state = el("p", { class: "state" });
    this.title = el("bdi", {});
    this.bell = el("p", { class: "bell", role: "timer" }, el("span", {}), el("span", { class: "numeral" }));
    this.head = el("header", { class: "head" }, this.state, this.bell, el("h2", {}, this.title));
    this.list = el("ul", { class: "cards" });
    this.left = el("span", {});
    this.stubs = el("span", { class: "stubs", "aria-hidden": "true" });
    this.tray = el("div", { class: "tray" }, this.stubs, this.left);
    this.why = el("p", { class: "why" });
    this.body = el("div", { class: "ballot" }, this.list, this.tray, this.why);
    this.update(poll);
  }

  /** A newer definition of the poll. */
  update(poll) {
    this.poll = poll;
    say(this.title, poll.title);
    for (const contestant of poll.contestants) {
      const card = this.#cards.get(contestant.number) ?? this.#addCard(contestant.number);
      say(find("bdi", card), contestant.name);
      this.#picture(card, contestant);
    }
    this.tray.hidden = !poll.votesPerVoter;
    this.tick();
  }

  #addCard(number) {
    const mark = el("span", { class: "mark numeral" }, el("span", {}, String(number)));
    mark.classList.toggle("long", number > 99);
    const name = el("span", { class: "name" }, el("b", {}, el("bdi", {})), el("span", { class: "mine" }));
    const card = el("button", { type: "button", class: "card", disabled: true });
    card.append(el("span", { class: "unseen" }, t("castFor")), mark, name, el("span", { class: "box" }));
    card.addEventListener("click", () => this.onVote(number));
    this.#cards.set(number, card);
    // In the order of numbers; only somebody new is ever put in, and then at the end of what a finger may be near.
    const after = [...this.#cards.keys()].filter((other) => other < number).length;
    this.list.insertBefore(el("li", {}, card), this.list.children[after] ?? null);
    return card;
  }

  #picture(card, { number, imageUrl }) {
    const mark = find(".mark", card);
    const shown = find("img", mark);
    if ((shown?.getAttribute("src") ?? null) === imageUrl) return;
    const fall = () => mark.replaceChildren(el("span", {}, String(number)));
    if (!imageUrl) return fall();
    const picture = el("img", { src: imageUrl, alt: "", decoding: "async", loading: "lazy", referrerpolicy: "no-referrer" });
    picture.addEventListener("error", fall);
    mark.replaceChildren(picture, el("span", { class: "pictured" }, String(number)));
  }

  /** Once a second: where the poll stands, and how long it will. `certificate`: null before the result is certified. */
  tick(certificate = null) {
    const status = certificate ? "certified" : statusOf(this.poll);
    if (status !== this.#status) {
      this.#status = status;
      this.state.className = `state ${status}`;
      say(this.state, t(`state.${status}`));
      for (const card of this.#cards.values()) card.disabled = status !== "open";
    }
    const [label, number] = this.bell.children;
    if (certificate) {
      say(number, "");
      say(label, formatMoment(Date.parse(certificate.certifiedAt)));
      return status;
    }
    const until = Date.parse(status === "scheduled" ? this.poll.opensAt : this.poll.closesAt);
    const left = until - now();
    const verb = status === "scheduled" ? "opens" : "closes";
    const counts = left > 0 && left < DAY_MS;
    say(number, counts ? countdown(until) : "");
    this.bell.classList.toggle("soon", counts && left <= SOON_MS);
    if (Number.isNaN(until)) say(label, "");
    else if (counts) say(label, t(`bell.${verb}`));
    else say(label, t(left > 0 ? `bell.${verb}At` : "bell.closed", { when: formatMoment(until) }));
    return status;
  }

  /** The voter's own votes here, and which ballots are believed used. */
  showVotes(votes, used) {
    for (const [number, card] of this.#cards) {
      const own = votes.filter((vote) => vote.contestant === number);
      const states = ["waiting", "sent", "counted", "refused"].filter((state) => own.some((vote) => vote.state === state));
      const line = find(".mine", card);
      const form = states.length === 1 ? "mine" : "few";
      const text = states.map((state) => t(`${form}.${state}`, { n: own.filter((vote) => vote.state === state).length }));
      say(line, text.join(" · "));
      line.className = `mine ${states.length === 1 ? states[0] : ""}`;
      const cast = states.filter((state) => state !== "refused");
      if (states.length) card.dataset.cast = cast.length === 1 ? cast[0] : (cast[0] ?? "refused");
      else delete card.dataset.cast;
    }
    this.#showLeft(used);
  }

  /** Why the last vote that was refused was: below the cards, where it moves none of them. */
  showWhy(text) {
    say(this.why, text);
  }

  #showLeft(used) {
    const limit = this.poll.votesPerVoter;
    this.list.classList.toggle("spent", Boolean(limit && used.size >= limit));
    if (!limit) return;
    const left = Math.max(0, limit - used.size);
    if (!used.size) say(this.left, t("allowed", { n: limit }));
    else say(this.left, left ? t("left", { n: left, limit }) : t("allUsed"));
    const stubs = limit > STUBS_MAX ? 0 : limit;
    if (this.stubs.children.length !== stubs) {
      this.stubs.replaceChildren(...Array.from({ length: stubs }, () => el("i")));
    }
    [...this.stubs.children].forEach((stub, index) => stub.classList.toggle("used", index >= left));
  }
}
