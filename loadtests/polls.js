// USERS users read the open polls and the file of one of them every 3 s, for DURATION seconds. Checks that almost every
// answer came from the edge and, where the stack reports it, that each origin got at most one request in 3 s.

import { check } from "k6";
import exec from "k6/execution";
import { Counter, Rate } from "k6/metrics";

import { localMetric, number, openPolls, p99Below, PATIENCE, readPolls, readResults, waitForFile } from "./stack.js";

const USERS = number("USERS", 12000);
const DURATION = number("DURATION", 60);
const EDGE_SECONDS = 3; // s-maxage of the public reads and of the files
const ORIGINS = ['route="GET /polls"', 'route="s3 resultsbucket"'];

const edgeHits = new Rate("edge_hits");
const originRequests = new Counter("origin_requests");

export const options = {
  scenarios: {
    // Many users at independent moments make a fixed rate; one virtual user for each of them would cost gigabytes.
    poll: {
      executor: "constant-arrival-rate",
      rate: USERS,
      timeUnit: "3s",
      duration: `${DURATION}s`,
      preAllocatedVUs: number("VUS", 100),
      maxVUs: 1000,
    },
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
  thresholds: {
    checks: ["rate==1"],
    ...(PATIENCE === 1 && { dropped_iterations: ["count==0"] }),
    edge_hits: ["rate>0.9"],
    "http_req_failed{name:GET /polls}": ["rate==0"],
    "http_req_duration{name:GET /polls}": [p99Below(500)],
    "http_req_failed{name:GET /results}": ["rate==0"],
    "http_req_duration{name:GET /results}": [p99Below(500)],
  },
};

export function setup() {
  const [poll] = openPolls();
  if (poll === undefined) {
    exec.test.abort("no poll is open: open one on the desk, /control/");
  }
  waitForFile(poll);
  return { poll, before: originRequestsSoFar() };
}

export default function watch({ poll }) {
  for (const { ok, hit } of [readPolls(), readResults(poll)]) {
    if (ok) {
      edgeHits.add(hit);
    }
  }
}

export function teardown({ before }) {
  const after = originRequestsSoFar();
  if (before.includes(null) || after.includes(null)) {
    return;
  }
  // One at the start, then one after each expiry.
  const most = Math.ceil(DURATION / EDGE_SECONDS) + 1;
  ORIGINS.forEach((origin, i) => {
    const asked = after[i] - before[i];
    originRequests.add(asked);
    check(asked, { "at most one origin request per 3 s": (n) => n <= most });
    console.log(`${asked} origin requests (${origin}) in ${DURATION} s; at most ${most}`);
  });
}

function originRequestsSoFar() {
  return ORIGINS.map((origin) => localMetric("edge_origin_requests_total", origin));
}
