// A show: voters vote as fast as VUS connections allow and USERS users watch, for DURATION seconds, in a poll that the
// crew closes after two thirds of the time. Checks that each accepted vote is in the ledger or rejected as too late; that
// no vote cast before the close was rejected, and none after it counted; and that the certified file, with the same
// figures, is out within a minute of the last vote.

import { check, sleep } from "k6";
import exec from "k6/execution";
import { Counter, Gauge, Rate } from "k6/metrics";

import { castVote, counted, crew, number, p99Below, PATIENCE, readPolls, readResults, voterTokens, waitForFile, waitUntilCounted } from "./stack.js";

const VUS = number("VUS", 50);
const USERS = number("USERS", 3000);
const DURATION = number("DURATION", 60);
const CLOSE_AT_MS = Math.round((DURATION * 1000 * 2) / 3);
// A vote sent this long after the request to close was sent after the close.
const CLOSE_TAKES_MS = 2000;
const CONTESTANTS = 20;
// Probes after the close, on a queue with a stretched window, and the next ticks.
const CERTIFIED_SECONDS = 60;
// CERTIFY_SIGN_SECONDS, 146 s, after a sign of a failed batch, and the time above.
const CERTIFIED_PATIENCE_SECONDS = 240;

const nextToken = voterTokens(VUS);

const accepted = new Counter("votes_accepted");
const surelyInTime = new Counter("votes_before_close");
const surelyLate = new Counter("votes_after_close");
const votesCounted = new Gauge("votes_counted");
const votesRejected = new Gauge("votes_rejected");
const secondsToCount = new Gauge("seconds_from_last_post_to_last_count");
const secondsToCertify = new Gauge("seconds_from_last_post_to_certified_file");
const edgeHits = new Rate("edge_hits");

export const options = {
  scenarios: {
    vote: { executor: "constant-vus", exec: "vote", vus: VUS, duration: `${DURATION}s` },
    watch: {
      executor: "constant-arrival-rate",
      exec: "watch",
      rate: USERS,
      timeUnit: "3s",
      duration: `${DURATION}s`,
      preAllocatedVUs: 50,
      maxVUs: 1000,
    },
    close: {
      executor: "shared-iterations",
      exec: "close",
      vus: 1,
      iterations: 1,
      startTime: `${CLOSE_AT_MS}ms`,
    },
  },
  setupTimeout: "2m",
  teardownTimeout: "30m",
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
  thresholds: {
    checks: ["rate==1"],
    edge_hits: ["rate>0.9"],
    "http_req_failed{name:POST /votes}": ["rate==0"],
    "http_req_failed{name:GET /polls}": ["rate==0"],
    "http_req_duration{name:POST /votes}": [p99Below(1000)],
    "http_req_duration{name:GET /polls}": [p99Below(500)],
    "http_req_failed{name:GET /results}": ["rate==0"],
    "http_req_duration{name:GET /results}": [p99Below(500)],
    seconds_from_last_post_to_certified_file: [`value<${CERTIFIED_SECONDS * PATIENCE}`],
  },
};

export function setup() {
  const contestants = Array.from({ length: CONTESTANTS }, (_, i) => ({ number: i + 1, name: `Contestant ${i + 1}` }));
  const poll = crew("POST", "/polls", { title: "Load test", results: "live", contestants }, 201);
  crew("POST", `/polls/${poll.id}/open`, null, 200);
  waitForFile(poll.id);
  return { poll: poll.id };
}

export function vote({ poll }) {
  const sentMs = Date.now() - exec.scenario.startTime;
  if (!castVote(nextToken(), { poll, contestant: 1 + Math.floor(Math.random() * CONTESTANTS) })) {
    return;
  }
  accepted.add(1);
  if (Date.now() - exec.scenario.startTime < CLOSE_AT_MS) {
    surelyInTime.add(1);
  } else if (sentMs > CLOSE_AT_MS + CLOSE_TAKES_MS) {
    surelyLate.add(1);
  }
}

export function watch({ poll }) {
  for (const { ok, hit } of [readPolls(), readResults(poll)]) {
    if (ok) {
      edgeHits.add(hit);
    }
  }
}

export function close({ poll }) {
  const closed = crew("POST", `/polls/${poll}/close`, null, 200);
  check(closed, { "the poll is closed": (p) => p.status === "closed" });
}

export function teardown({ poll }) {
  const lastPostMs = Date.now();
  const expected = counted("votes_accepted");
  const { audit: after, seconds } = waitUntilCounted(
    poll,
    lastPostMs,
    (a) => a.ledgerVotes + a.rejectedVotes >= expected && a.inSync,
  );
  votesCounted.add(after.ledgerVotes);
  votesRejected.add(after.rejectedVotes);
  secondsToCount.add(seconds);
  check(after, {
    "counted and rejected make all that was accepted": (a) =>
      expected > 0 && a.ledgerVotes + a.rejectedVotes === expected,
    "every vote before the close is counted": (a) => a.ledgerVotes >= counted("votes_before_close"),
    "every vote after the close is rejected as that": (a) =>
      a.rejectedVotes === (a.rejected.afterClosing || 0) && a.rejectedVotes >= counted("votes_after_close"),
    "ledger, tally and ranking agree": (a) => a.inSync,
  });
  let file;
  const deadline = lastPostMs + CERTIFIED_PATIENCE_SECONDS * 1000;
  while (!(file = readResults(poll, true).body || {}).certified && Date.now() < deadline) {
    sleep(0.5);
  }
  secondsToCertify.add((Date.now() - lastPostMs) / 1000);
  check(file, {
    "the certified file is out": (f) => f.certified === true,
    "and says what was counted": (f) => f.totalVotes === after.ledgerVotes && f.turnout.votes === after.ledgerVotes,
  });
  console.log(`${expected} accepted = ${after.ledgerVotes} counted + ${after.rejectedVotes} after the close`);
}
