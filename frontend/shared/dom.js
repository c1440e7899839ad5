// Making and changing elements. Text is only ever set as text.

// For a browser without it: newer.js lists what browsers lack.
Element.prototype.replaceChildren ??= function (...children) {
  this.textContent = "";
  this.append(...children);
};

/** An element with attributes, listeners (`onclick`), `class`, and children. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const find = (selector, within = document) => within.querySelector(selector);

/** Sets text only where it differs, so that nothing is painted or announced twice. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** What a screen reader may still have to read of what was said. */
const SAID_MAX = 8;

/** Tells screen readers, after what they were told before: a text in its place would take that back unread. */
export function announce(text) {
  const said = find("#announcer");
  if (said.lastChild?.textContent === text) return;
  said.append(el("p", {}, text));
  if (said.children.length > SAID_MAX) said.firstChild.remove();
}

export const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Runs `change`, which may reorder `list`, and lets each child glide from where it was to where it is. */
export function glide(list, change) {
  if (calm.matches || document.hidden) return change();
  const before = new Map([...list.children].map((child) => [child, child.getBoundingClientRect().top]));
  change();
  const moves = [];
  for (const child of list.children) {
    const top = before.get(child);
    if (top !== undefined) moves.push([child, top - child.getBoundingClientRect().top]);
  }
  for (const [child, distance] of moves) {
    if (Math.abs(distance) < 1) continue;
    child.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }], {
      duration: 700,
      easing: "cubic-bezier(.2, .7, .1, 1)",
    });
  }
}

const ROLL_MS = 900;
const rolling = new Map();

/** Lets a number roll to its new value; `format` makes its text. */
export function roll(element, value, format) {
  const shown = Number(element.dataset.value ?? value);
  element.dataset.value = value;
  if (calm.matches || document.hidden || shown === value) {
    rolling.delete(element);
    return say(element, format(value));
  }
  if (!rolling.size) requestAnimationFrame(rollOn);
  rolling.set(element, { from: shown, to: value, format, since: performance.now() });
}

function rollOn(now) {
  for (const [element, { from, to, format, since }] of rolling) {
    const done = Math.min(1, Math.max(0, (now - since) / ROLL_MS));
    say(element, format(Math.round(from + (to - from) * (1 - (1 - done) ** 3))));
    if (done === 1 || !element.isConnected) rolling.delete(element);
  }
  if (rolling.size) requestAnimationFrame(rollOn);
}
