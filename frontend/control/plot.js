// A figure with a plot of its last two minutes: 60 samples, one in 2 s.

import { el, setText } from "/shared/dom.js";
import { formatNumber } from "/shared/text.js";

const SAMPLES = 60;
const [WIDTH, HEIGHT] = [120, 40];
const SVG = "http://www.w3.org/2000/svg";

export class Plot {
  #samples = [];

  constructor(title) {
    this.value = el("p", { class: "numeral" }, "–");
    this.note = el("small", {});
    this.max = el("span", { class: "max" });
    this.path = document.createElementNS(SVG, "path");
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(this.path);
    this.element = el("section", { class: "plot" }, el("h3", {}, title), this.value, el("div", { class: "graph" }, this.max, svg), this.note);
  }

  /** Adds a sample; null leaves a gap. */
  add(value, note = "") {
    this.#samples.push(value);
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    setText(this.value, value == null ? "–" : formatNumber(value));
    setText(this.note, note);
    this.#draw();
  }

  #draw() {
    const max = Math.max(1, ...this.#samples.map((value) => value ?? 0));
    const start = SAMPLES - this.#samples.length;
    let path = "";
    let pen = "M";
    this.#samples.forEach((value, index) => {
      if (value == null) return (pen = "M");
      const x = ((start + index) / (SAMPLES - 1)) * WIDTH;
      path += `${pen}${x.toFixed(1)} ${(HEIGHT - (value / max) * HEIGHT).toFixed(1)}`;
      pen = "L";
    });
    this.path.setAttribute("d", path);
    setText(this.max, max > 1 ? formatNumber(max) : "");
  }
}
