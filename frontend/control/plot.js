// A figure and its last two minutes.

import { el, say } from "/shared/dom.js";
import { formatNumber } from "/shared/text.js";

const SAMPLES = 60;
const [WIDTH, HEIGHT] = [120, 40];
const SVG = "http://www.w3.org/2000/svg";

export class Plot {
  #samples = [];

  constructor(title) {
    this.value = el("p", { class: "numeral" }, "–");
    this.note = el("small", {});
    this.most = el("span", { class: "most" });
    this.path = document.createElementNS(SVG, "path");
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(this.path);
    this.element = el("section", { class: "plot" }, el("h3", {}, title), this.value, el("div", { class: "graph" }, this.most, svg), this.note);
  }

  /** The next sample; null leaves a gap. */
  add(value, note = "") {
    this.#samples.push(value);
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    say(this.value, value == null ? "–" : formatNumber(value));
    say(this.note, note);
    this.#draw();
  }

  #draw() {
    const most = Math.max(1, ...this.#samples.map((value) => value ?? 0));
    const start = SAMPLES - this.#samples.length;
    let path = "";
    let pen = "M";
    this.#samples.forEach((value, index) => {
      if (value == null) return (pen = "M");
      const x = ((start + index) / (SAMPLES - 1)) * WIDTH;
      path += `${pen}${x.toFixed(1)} ${(HEIGHT - (value / most) * HEIGHT).toFixed(1)}`;
      pen = "L";
    });
    this.path.setAttribute("d", path);
    say(this.most, most > 1 ? formatNumber(most) : "");
  }
}
