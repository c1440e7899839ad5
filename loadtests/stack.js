// Shared by the scenarios: the stack under test, the crew's requests, and the wait until votes are counted.
//
// To add a scenario: 1. a file NAME.js here that exports `options` and its functions, 2. its setup and teardown with the
// helpers of this file, 3. a line in scripts/test_stack.sh that runs it in small. `make loadtest SCENARIO=NAME` runs it.

import { check, fail, sleep } from "k6";
import { SharedArray } from "k6/data";
import exec from "k6/execution";
import http from "k6/http";

export const BASE_URL = (__ENV.BASE_URL || "http://localhost:8080").replace(/\/$/, "");

// k6's own API for metrics: a teardown has no other access to the counters of the virtual users.
const K6_API = __ENV.K6_API || "http://localhost:6565";

const COUNT_POLL_SECONDS = 0.5;
// Longer than the visibility timeout of a failed batch (VotesQueue.VisibilityTimeout, 123 s).
const COUNT_STALLED_SECONDS = 180;
const ACCEPTED_OR_THROTTLED = http.expectedStatuses(202, 429);
const THROTTLED_SECONDS = 0.1;
const THROTTLED_TRIES_MAX = 300;
const CREW_TRIES_MAX = 5;
// functions/results looks for polls to publish every minute.
const FILE_SECONDS = 75;

// Returns a positive whole number from the environment.
export function number(name, fallback) {
  const value = Number(__ENV[name] || fallback);
  if (!Number.isInteger(value) || value < 1) {
    fail(`${name} must be a whole number above 0, not ${__ENV[name]}`);
  }
  return value;
}

// Factor on the limits of latencies. PATIENCE=60 relaxes them on a busy machine, where only the answers themselves are
// checked.
export const PATIENCE = number("PATIENCE", 1);

export function p99Below(ms) {
  return `p(99)<${ms * PATIENCE}`;
}

// Returns the tokens of the voters, for a SharedArray.
export function tokens() {
  if (!__ENV.TOKENS) {
    fail('TOKENS must name a file with {"tokens":["…"]}; make loadtest gets one from the local stack');
  }
  return JSON.parse(open(__ENV.TOKENS)).tokens;
}

// Returns a function that returns the token of the virtual user's next voter; each virtual user has voters of its own.
// Call it in the init context. Tokens are cached, because a SharedArray copies an element at each access, character by
// character.
export function voterTokens(vus) {
  const all = new SharedArray("tokens", tokens);
  const own = [];
  return () => {
    const turn = __ITER % Math.ceil(all.length / vus);
    own[turn] = own[turn] || all[(__VU + turn * vus) % all.length];
    return own[turn];
  };
}

// Casts one vote and returns whether the gateway accepted it. A throttled vote is no failure and is sent again, as by the
// pages: a load test is often faster than VotesThrottleRate.
export function castVote(token, vote) {
  const post = () =>
    http.post(`${BASE_URL}/votes`, JSON.stringify(vote), {
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      responseType: "none",
      responseCallback: ACCEPTED_OR_THROTTLED,
      tags: { name: "POST /votes" },
    });
  let response = post();
  for (let tries = 1; response.status === 429 && tries < THROTTLED_TRIES_MAX; tries++) {
    sleep(THROTTLED_SECONDS);
    response = post();
  }
  return check(response, { "vote accepted": (r) => r.status === 202 });
}

// Reads the file of a poll, or with "polls" the list, like a viewer's page: {ok, hit}, where a hit came from the edge. With
// `wanted`, returns its body too, and a missing file fails no check.
export function readResults(poll, wanted = false) {
  const response = http.get(`${BASE_URL}/results/${poll}.json`, {
    responseType: wanted ? "text" : "none",
    tags: { name: wanted ? "results" : "GET /results" },
  });
  const ok = wanted ? response.status === 200 : check(response, { "results read": (r) => r.status === 200 });
  const hit = !/^Miss|^Error/.test(response.headers["X-Cache"] || "Miss");
  return { ok, hit, body: wanted && ok ? response.json() : null };
}

// Waits for the file of a poll that was opened by hand, which takes up to a minute.
export function waitForFile(poll) {
  for (const deadline = Date.now() + FILE_SECONDS * 1000; !readResults(poll, true).ok; sleep(1)) {
    if (Date.now() > deadline) {
      exec.test.abort(`no file of poll ${poll} after ${FILE_SECONDS} s`);
    }
  }
}

// Returns the ids of the open polls, by the public list.
export function openPolls() {
  const { polls } = readResults("polls", true).body || { polls: [] };
  const isPast = (moment) => Boolean(moment) && Date.parse(moment) <= Date.now();
  return polls.filter(({ opensAt, closesAt }) => isPast(opensAt) && !isPast(closesAt)).map(({ id }) => id);
}

// Sends a request of the crew; aborts the test on any other status than the expected one. The throttle of a scaled stack
// makes it wait.
export function crew(method, path, body, expected) {
  const send = () =>
    http.request(method, `${BASE_URL}/admin${path}`, body ? JSON.stringify(body) : null, {
      headers: { Authorization: `Bearer ${__ENV.ADMIN_TOKEN}`, "Content-Type": "application/json" },
      responseType: "text",
      tags: { name: "crew" },
      timeout: "35s",
    });
  let response = send();
  for (let tries = 1; response.status === 429 && tries < CREW_TRIES_MAX; tries++) {
    sleep(1);
    response = send();
  }
  if (response.status !== expected) {
    exec.test.abort(`${method} /admin${path}: ${response.status} ${response.body}, expected ${expected}`);
  }
  return expected === 204 ? null : response.json();
}

// Returns the poll's audit, with the sum of its rejections as `rejectedVotes`.
export function audit(poll) {
  const answer = crew("GET", `/polls/${poll}/audit`, null, 200);
  answer.rejectedVotes = Object.values(answer.rejected).reduce((sum, n) => sum + n, 0);
  return answer;
}

// Returns the value of one of our counters, after k6 has collected all samples.
export function counted(metric) {
  sleep(1); // k6 collects samples every 50 ms, and has no call that waits for them.
  const response = http.get(`${K6_API}/v1/metrics/${metric}`, { responseType: "text", tags: { name: "k6" } });
  return response.status === 200 ? response.json("data.attributes.sample.count") : 0;
}

// Reads the audit until `isComplete(audit)`, or until it has not changed for COUNT_STALLED_SECONDS. Returns {audit,
// seconds}, where the seconds run from `sinceMs` to the first read with the last vote.
export function waitUntilCounted(poll, sinceMs, isComplete) {
  let last = audit(poll);
  let movedMs = Date.now();
  while (!isComplete(last) && Date.now() - movedMs < COUNT_STALLED_SECONDS * 1000) {
    sleep(COUNT_POLL_SECONDS);
    const next = audit(poll);
    if (next.ledgerVotes + next.rejectedVotes !== last.ledgerVotes + last.rejectedVotes) {
      movedMs = Date.now();
    }
    last = next;
  }
  return { audit: last, seconds: Math.max(0, (movedMs - sinceMs) / 1000) };
}

// Returns how many reads of viewers the edge has sent to its origins, or null for a deployed stack.
export function originReads() {
  const response = http.get(`${BASE_URL}/_local/metrics`, { responseType: "text", tags: { name: "metrics" } });
  if (response.status !== 200) {
    return null;
  }
  const isRead = (line) => /^edge_origin_requests_total/.test(line) && !/"(POST \/votes|[A-Z]+ \/admin)/.test(line);
  const lines = response.body.split("\n").filter(isRead);
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

export function uuidV7() {
  const time = Date.now().toString(16).padStart(12, "0");
  const hex = (bits) => Math.floor(Math.random() * 2 ** bits).toString(16).padStart(bits / 4, "0");
  const variant = (0x8000 + Math.floor(Math.random() * 0x4000)).toString(16);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex(12)}-${variant}-${hex(24)}${hex(24)}`;
}
