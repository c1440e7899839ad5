// VOTERS voters (the number of TOKENS) send VOTES requests in poll POLL through VUS connections, as fast as possible; or
// RATE requests a second for DURATION seconds, if RATE is given, through at most VUS connections. Each request has LIST
// votes of COUNT taps each, 1 by default; above that, a poll of their own is made. Checks that every accepted vote is in
// the ledger, and that ledger, tally and ranking agree.

import { check } from "k6";
import exec from "k6/execution";
import { Counter, Gauge } from "k6/metrics";

import { audit, castVote, counted, crew, number, p99Below, uuidV7, voterTokens, waitUntilCounted } from "./stack.js";

const VOTES = number("VOTES", 10000);
const VUS = number("VUS", 100);
const RATE = __ENV.RATE ? number("RATE") : null;
const DURATION = number("DURATION", 60);
const COUNT = number("COUNT", 1);
const LIST = number("LIST", 1);
const POLL = number("POLL", 1); // The local stack's demo poll.
const CONTESTANTS = 10; // Of a poll of its own.
// Each request has an id of its own, so that retries are safe.
const CLIENT_IDS = __ENV.CLIENT_IDS === "1" || COUNT > 1 || LIST > 1;

const nextToken = voterTokens(VUS);

const accepted = new Counter("votes_accepted");
const votesCounted = new Gauge("votes_counted");
const secondsToCount = new Gauge("seconds_from_last_post_to_last_count");

export const options = {
  scenarios: {
    vote: RATE
      ? { executor: "constant-arrival-rate", rate: RATE, duration: `${DURATION}s`, preAllocatedVUs: VUS }
      : { executor: "shared-iterations", vus: Math.min(VUS, VOTES), iterations: VOTES, maxDuration: "30m" },
  },
  // Only the tags that thresholds and summary need: every sample of every request carries them.
  systemTags: ["name", "check", "status", "error_code"],
  setupTimeout: "1m",
  teardownTimeout: "30m",
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
  thresholds: {
    checks: ["rate==1"],
    "http_req_failed{name:POST /votes}": ["rate==0"],
    "http_req_duration{name:POST /votes}": [p99Below(1000)],
  },
};

export function setup() {
  const poll = COUNT > 1 || LIST > 1 ? ownPoll() : crew("GET", `/polls/${POLL}`, null, 200);
  if (poll.status !== "open" || poll.votesPerVoter !== null) {
    exec.test.abort(`poll ${poll.id} must be open and without a limit for each voter`);
  }
  return { poll: poll.id, contestants: poll.contestants.map((c) => c.number), before: audit(poll.id) };
}

// Makes a poll whose votes may have COUNT taps.
function ownPoll() {
  const contestants = Array.from({ length: CONTESTANTS }, (_, i) => ({ number: i + 1, name: `Contestant ${i + 1}` }));
  const poll = crew("POST", "/polls", { title: "Load test", tapsMax: COUNT, contestants }, 201);
  return crew("POST", `/polls/${poll.id}/open`, null, 200);
}

export default function vote({ poll, contestants }) {
  if (castVote(nextToken(), request(poll, contestants))) {
    accepted.add(LIST * COUNT);
  }
}

function request(poll, contestants) {
  const vote = () => ({ contestant: favourite(contestants), ...(COUNT > 1 && { count: COUNT }) });
  const votes = LIST > 1 ? { votes: Array.from({ length: LIST }, vote) } : vote();
  return { poll, ...(CLIENT_IDS && { id: uuidV7() }), ...votes };
}

export function teardown({ poll, before }) {
  const lastPostMs = Date.now();
  const expected = counted("votes_accepted");
  const { audit: after, seconds } = waitUntilCounted(
    poll,
    lastPostMs,
    (a) => a.ledgerVotes - before.ledgerVotes >= expected && a.inSync,
  );
  const found = after.ledgerVotes - before.ledgerVotes;
  votesCounted.add(found);
  secondsToCount.add(seconds);
  check(after, {
    "every accepted vote is in the ledger, once": () => expected > 0 && found === expected,
    "each has one row": (a) => (a.casts - before.casts) * COUNT === expected,
    "no vote was rejected": (a) => a.rejectedVotes === before.rejectedVotes,
    "ledger, tally and ranking agree": (a) => a.inSync,
  });
  console.log(`${expected} votes accepted, ${found} counted, the last ${seconds.toFixed(1)} s after the last POST`);
}

// Returns a contestant, the first ones more often than the last.
function favourite(contestants) {
  return contestants[Math.floor(Math.random() * Math.random() * contestants.length)];
}
