// The broadcast overlay: /overlay/?poll=1; &top=5, &side=end and &lang=pt are optional. It runs for hours: it creates its
// rows once, keeps only the last file, and shows old data rather than an error on air.

import { countdown, everySecond, now, statusOf } from "/shared/clock.js";
import { el, find, roll, setText } from "/shared/dom.js";
import { followFile, followList, isShown } from "/shared/standing.js";
import { spread } from "/shared/feed.js";
import { formatShare, loadTexts, t } from "/shared/text.js";

const TOP = 5;
const TOP_MAX = 8;
const DAY_MS = 86_400_000;
/** The list is requested this soon after an opening or a close. */
const SOON_S = 3;
/** Shares are animated in tenths of a percent. */
const SHARE_STEPS = 1000;
/** Title sizes in rem; the first that fits is used. The last holds 200 Chinese characters. */
const TITLE_SIZES = [4.5, 4, 3.5, 3, 2.5, 2, 1.6, 1.3];
const FONT = "800 1em Numbers";
/** Numbers with more digits are set smaller. */
const NUMBER_DIGITS = 3;

const query = new URLSearchParams(location.search);
const id = Number(query.get("poll"));
const top = Math.min(TOP_MAX, Math.max(1, Number(query.get("top")) || TOP));

const board = find("#board");
const list = find("#rows");
const freeRows = [];
const rows = new Map();
let poll = null;
let standing = null;
let listVersion = 0;
let certified = false;
let lastStatus = null;
let fittedFor = null;
let latest = null;

function makeRows() {
  for (let i = 0; i < top; i++) {
    const row = el("li", {}, el("span", { class: "number numeral" }), el("i"), el("span", { class: "name" }, el("bdi", {})), el("span", { class: "share numeral" }));
    list.append(row);
    freeRows.push(row);
  }
}

/** Assigns a row to each top contestant, and frees the other rows. */
function assignRows(entries) {
  const staying = new Set(entries.map(({ contestant }) => contestant));
  for (const [contestant, row] of rows) {
    if (staying.has(contestant)) continue;
    row.classList.remove("shown");
    rows.delete(contestant);
    freeRows.push(row);
  }
  entries.forEach((entry, index) => {
    const row = rows.get(entry.contestant) ?? freeRows.shift();
    if (!rows.has(entry.contestant)) delete find(".share", row).dataset.value;
    rows.set(entry.contestant, row);
    fill(row, entry, index, entries[0]);
  });
}

function fill(row, { contestant, name, votes, share, rank }, index, leader) {
  const number = find(".number", row);
  setText(number, String(contestant));
  number.classList.toggle("long", String(contestant).length > NUMBER_DIGITS);
  setText(find("bdi", row), name);
  roll(find(".share", row), Math.round(share * SHARE_STEPS), (value) => formatShare(value / SHARE_STEPS));
  row.style.transform = `translateY(${index * 100}%) translateY(${index * 0.4}rem)`;
  find("i", row).style.transform = `scaleX(${leader.votes ? votes / leader.votes : 0})`;
  row.classList.toggle("first", rank === 1 && votes > 0);
  row.classList.add("shown");
}

function showRows(entries) {
  list.style.setProperty("--shown", entries.length);
  list.classList.toggle("empty", !entries.length);
  assignRows(entries);
}

const statusNow = () => (certified ? "certified" : statusOf(poll));

/** Shows a definition, unless a newer one is on air. */
function define(newer) {
  if (newer.listVersion < poll?.listVersion) return;
  poll = newer;
  setText(find("#title"), poll.title);
  board.hidden = false;
  tick();
}

function show(file) {
  latest = file;
  certified ||= file.certified;
  if (file.listVersion > listVersion && !certified) pollList.hasten(0);
  define(file);
  // The edge may have cached a ranking from before it was hidden.
  showRows((isShown(poll, statusNow()) && file.ranking?.slice(0, top)) || []);
  setText(find("#total"), t("overlay.total", { n: file.turnout.votes }));
  tick();
}

/**
 * Sets the largest title size at which the board with all its expected rows fits into the title-safe area. Measures only
 * after a change of title, viewport or font; the font loads once a text uses it.
 */
function fitTitle() {
  const expected = Math.min(top, poll.contestants.length);
  const inputs = `${expected} ${innerWidth} ${innerHeight} ${document.fonts.check(FONT)} ${poll.title}`;
  if (inputs === fittedFor) return;
  fittedFor = inputs;
  board.style.setProperty("--expected", expected);
  const title = find("#title");
  title.classList.remove("clamped");
  board.classList.add("fitting");
  const excess = () => board.scrollHeight - board.clientHeight;
  for (const size of TITLE_SIZES) {
    board.style.setProperty("--title", `${size}rem`);
    if (excess() <= 0) break;
  }
  if (excess() > 0) {
    const line = parseFloat(getComputedStyle(title).lineHeight);
    title.style.setProperty("--lines", Math.max(1, Math.floor((title.offsetHeight - excess()) / line)));
    title.classList.add("clamped");
  }
  board.classList.remove("fitting");
}

/** Follows the standing from the opening to the certification: a certified standing does not change. */
function follow(status) {
  const wanted = status !== "scheduled" && status !== "certified";
  if (!isShown(poll, status)) showRows([]);
  if (wanted === Boolean(standing)) return;
  standing?.stop();
  standing = wanted ? followFile(id, { onData: show }).start() : null;
}

function tick() {
  if (!poll) return;
  fitTitle();
  const status = statusNow();
  const state = find("#state");
  setText(state, t(`state.${status}`));
  state.className = status;
  const until = Date.parse(status === "scheduled" ? poll.opensAt : poll.closesAt);
  const left = until - now();
  setText(find("#timer"), left > 0 && left < DAY_MS ? countdown(until) : "");
  follow(status);
  if (status === lastStatus) return;
  lastStatus = status;
  pollList.hasten(SOON_S * spread());
}

const pollList = followList({
  choose: (polls) => [polls.find((one) => one.id === id) ?? { id }],
  known: () => poll,
  onPolls([found], version) {
    listVersion = version;
    if (found) define(found);
  },
  isOpen: () => poll !== null && statusNow() === "open",
});

async function start() {
  board.classList.toggle("end", query.get("side") === "end");
  makeRows();
  await loadTexts({ onLate: () => latest && show(latest) });
  pollList.start();
  everySecond(tick);
  document.fonts.addEventListener("loadingdone", tick);
}

start();
