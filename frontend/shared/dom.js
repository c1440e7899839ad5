// DOM helpers. Text is never parsed as HTML.

// A polyfill: fallbacks.js lists them all.
Element.prototype.replaceChildren ??= function (...children) {
  this.textContent = "";
  this.append(...children);
};

/** Returns an element with attributes, listeners (`onclick`) and children. */
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

/** Sets a text if it differs: nothing is painted or announced twice. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Announcements that a screen reader may not have read yet. */
const LOG_MAX = 8;

/** Appends an announcement for screen readers: replacing the last could drop it unread. */
export function announce(text) {
  const log = find("#announcer");
  if (log.lastChild?.textContent === text) return;
  log.append(el("p", {}, text));
  if (log.children.length > LOG_MAX) log.firstChild.remove();
}

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** Runs `change`, which may reorder `list`, and animates the children to their new places. */
export function glide(list, change) {
  if (reducedMotion.matches || document.hidden) return change();
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

/** Animates a number to its new value. */
export function roll(element, value, format) {
  const shown = Number(element.dataset.value ?? value);
  element.dataset.value = value;
  if (reducedMotion.matches || document.hidden || shown === value) {
    rolling.delete(element);
    return setText(element, format(value));
  }
  if (!rolling.size) requestAnimationFrame(rollOn);
  rolling.set(element, { from: shown, to: value, format, since: performance.now() });
}

function rollOn(now) {
  for (const [element, { from, to, format, since }] of rolling) {
    const done = Math.min(1, Math.max(0, (now - since) / ROLL_MS));
    setText(element, format(Math.round(from + (to - from) * (1 - (1 - done) ** 3))));
    if (done === 1 || !element.isConnected) rolling.delete(element);
  }
  if (rolling.size) requestAnimationFrame(rollOn);
}
