// The ballots in use, by voter and poll, on this device: they outlive the page and are shared by its tabs. So a voter's
// next vote takes a free ballot without asking anyone.

const KEY = "ballots";
const KEEP_KEY = "keep-ballots";
/** The voters of a shared device, and the polls of a season: the oldest are forgotten. */
const VOTERS_MAX = 10;
const POLLS_MAX = 100;

// Where site data is blocked, access throws, and the page's memory replaces it.
const memory = new Map();
let storage = {
  getItem: (name) => memory.get(name) ?? null,
  setItem: (name, text) => memory.set(name, text),
  removeItem: (name) => memory.delete(name),
};
try {
  localStorage.setItem("kept", "");
  localStorage.removeItem("kept");
  storage = localStorage;
} catch {}

/** Returns [[voter, [[poll, ballots]]]], the latest last. */
function load() {
  try {
    return JSON.parse(storage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
}

function store(voters) {
  try {
    if (voters.length) storage.setItem(KEY, JSON.stringify(voters.slice(-VOTERS_MAX)));
    else storage.removeItem(KEY);
  } catch {}
}

/** Returns a voter's ballots in use: sets by poll. */
export function rememberedBallots(voter) {
  const polls = load().find(([name]) => name === voter)?.[1] ?? [];
  return new Map(polls.map(([poll, used]) => [poll, new Set(used)]));
}

/** Replaces a voter's ballots in use in one poll. */
export function rememberBallots(voter, poll, used) {
  const voters = load();
  const polls = voters.find(([name]) => name === voter)?.[1] ?? [];
  const others = polls.filter(([number]) => number !== poll);
  const mine = [...others, [poll, [...used].sort((a, b) => a - b)]].slice(-POLLS_MAX);
  store([...voters.filter(([name]) => name !== voter), [voter, mine]]);
}

/** Whether ballots are remembered after a sign-out. */
export const keepsBallots = () => storage.getItem(KEEP_KEY) === "yes";

export function keepBallots(kept) {
  if (kept) storage.setItem(KEEP_KEY, "yes");
  else storage.removeItem(KEEP_KEY);
}

/** Forgets a voter at the sign-out, unless they chose to be remembered. */
export function forgetBallots(voter) {
  if (!keepsBallots()) store(load().filter(([name]) => name !== voter));
}

/** Calls back when another tab has remembered or forgotten ballots. */
export function onOtherTab(listener) {
  addEventListener("storage", (event) => event.key === KEY && listener());
}
