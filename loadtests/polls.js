// USERS users poll GET /polls every 3 s for DURATION seconds. Then: almost every answer came from the edge, and where
// the stack tells, the origin was asked at most once in 3 s.

import { check } from "k6";
import { Counter, Rate } from "k6/metrics";

import { localMetric, number, p99Below, PATIENCE, readPolls } from "./stack.js";

const USERS = number("USERS", 12000);
const DURATION = number("DURATION", 60);
const EDGE_SECONDS = 3; // s-maxage of the public reads
const ROUTE = 'route="GET /polls"';

const edgeHits = new Rate("edge_hits");
const originRequests = new Counter("origin_requests");

export const options = {
  scenarios: {
    // A fixed rate is what so many users make together, each at a moment of its own; one virtual user for each of
    // them would cost gigabytes.
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
  },
};

export function setup() {
  return { before: localMetric("edge_origin_requests_total", ROUTE) };
}

export default function poll() {
  const { ok, hit } = readPolls();
  if (ok) {
    edgeHits.add(hit);
  }
}

export function teardown({ before }) {
  const after = localMetric("edge_origin_requests_total", ROUTE);
  if (before === null || after === null) {
    return;
  }
  originRequests.add(after - before);
  // One at once, then one after each expiry.
  const most = Math.ceil(DURATION / EDGE_SECONDS) + 1;
  check(after - before, { "at most one origin request per 3 s": (n) => n <= most });
  console.log(`${after - before} origin requests in ${DURATION} s; at most ${most}`);
}
