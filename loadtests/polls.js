// USERS pages that follow an open poll: each reads its file every 3 s, and the list once a minute, for DURATION seconds.
// Checks that almost every answer came from the edge and, where the stack reports it, that the bucket got at most one
// request for each of the two files in 3 s, and no other origin got any.

import { check } from "k6";
import exec from "k6/execution";
import { Counter, Rate } from "k6/metrics";

import { number, openPolls, originReads, p99Below, PATIENCE, readResults, waitForFile } from "./stack.js";

const USERS = number("USERS", 12000);
const DURATION = number("DURATION", 60);
const EDGE_SECONDS = 3; // s-maxage of the files
const LIST_SECONDS = 60; // LIST_S in frontend/shared/standing.js
const FILES = 2;

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
  return { poll, before: originReads() };
}

export default function watch({ poll }) {
  const files = Math.random() < EDGE_SECONDS / LIST_SECONDS ? [poll, "polls"] : [poll];
  for (const { ok, hit } of files.map((file) => readResults(file))) {
    if (ok) {
      edgeHits.add(hit);
    }
  }
}

export function teardown({ before }) {
  const after = originReads();
  if (before === null || after === null) {
    return;
  }
  // One at the start, then one after each expiry.
  const most = FILES * (Math.ceil(DURATION / EDGE_SECONDS) + 1);
  const asked = after - before;
  originRequests.add(asked);
  check(asked, { "at most one origin request for a file in 3 s": (n) => n <= most });
  console.log(`${asked} origin requests in ${DURATION} s; at most ${most}`);
}
