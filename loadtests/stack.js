// What the scenarios share: the stack under test, the crew's requests, and waiting until votes are counted.

import { check, fail, sleep } from "k6";
import { SharedArray } from "k6/data";
import exec from "k6/execution";
import http from "k6/http";

export const BASE_URL = (__ENV.BASE_URL || "http://localhost:8080").replace(/\/$/, "");

// Where k6 itself tells its metrics: a teardown has no other way to what the virtual users counted.
const K6_API = __ENV.K6_API || "http://localhost:6565";

const COUNT_POLL_SECONDS = 0.5;
// Longer than a failed batch stays invisible in the queue (VotesQueue.VisibilityTimeout, 123 s).
const COUNT_STALLED_SECONDS = 180;
const ACCEPTED_OR_THROTTLED = http.expectedStatuses(202, 429);
const THROTTLED_SECONDS = 0.1;
const THROTTLED_TRIES_MAX = 300;
// functions/results looks every minute what there is to publish.
const FILE_SECONDS = 75;

// A whole number from the environment.
export function number(name, fallback) {
  const value = Number(__ENV[name] || fallback);
  if (!Number.isInteger(value) || value < 1) {
    fail(`${name} must be a whole number above 0, not ${__ENV[name]}`);
  }
  return value;
}

// What a latency may be, in ms. PATIENCE=60 stretches it on a machine that is busy with something else, where what
// counts is that every answer comes, and is right.
export const PATIENCE = number("PATIENCE", 1);

export function p99Below(ms) {
  return `p(99)<${ms * PATIENCE}`;
}

// Tokens of voters, of whom each of so many virtual users has its own: what it gives is the next one's. Call it in the
// init context. Kept, because a SharedArray makes anew what is taken out of it, a letter at a time.
export function voterTokens(vus) {
  if (!__ENV.TOKENS) {
    fail('TOKENS must name a file with {"tokens":["…"]}; make loadtest gets one from the local stack');
  }
  const all = new SharedArray("tokens", () => JSON.parse(open(__ENV.TOKENS)).tokens);
  const own = [];
  return () => {
    const turn = __ITER % Math.ceil(all.length / vus);
    own[turn] = own[turn] || all[(__VU + turn * vus) % all.length];
    return own[turn];
  };
}

// Casts one vote and says whether the gateway accepted it. What its throttle refuses is no failure and is sent again, as
// the pages do: a load test is often faster than VotesThrottleRate.
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

// A read as a viewer's page does it: {ok, hit}, where a hit came from the edge.
export function readPolls() {
  const response = http.get(`${BASE_URL}/polls`, { responseType: "none", tags: { name: "GET /polls" } });
  const ok = check(response, { "polls read": (r) => r.status === 200 });
  return { ok, hit: !/^Miss|^Error/.test(response.headers["X-Cache"] || "Miss") };
}

// A poll's file, likewise; with its body where that is wanted, and no complaint while there is none.
export function readResults(poll, wanted = false) {
  const response = http.get(`${BASE_URL}/results/${poll}.json`, {
    responseType: wanted ? "text" : "none",
    tags: { name: wanted ? "results" : "GET /results" },
  });
  const ok = wanted ? response.status === 200 : check(response, { "results read": (r) => r.status === 200 });
  const hit = !/^Miss|^Error/.test(response.headers["X-Cache"] || "Miss");
  return { ok, hit, body: wanted && ok ? response.json() : null };
}

// A poll that is opened by hand has its file within a minute.
export function waitForFile(poll) {
  for (const deadline = Date.now() + FILE_SECONDS * 1000; !readResults(poll, true).ok; sleep(1)) {
    if (Date.now() > deadline) {
      exec.test.abort(`no file of poll ${poll} after ${FILE_SECONDS} s`);
    }
  }
}

// The ids of the polls that are open.
export function openPolls() {
  const response = http.get(`${BASE_URL}/polls`, { responseType: "text", tags: { name: "polls" } });
  const polls = response.status === 200 ? response.json("polls") : [];
  return polls.filter((poll) => poll.status === "open").map((poll) => poll.id);
}

// A request of the crew; fails the test unless it gets the status expected.
export function crew(method, path, body, expected) {
  const response = http.request(method, `${BASE_URL}/admin${path}`, body ? JSON.stringify(body) : null, {
    headers: { Authorization: `Bearer ${__ENV.ADMIN_TOKEN}`, "Content-Type": "application/json" },
    responseType: "text",
    tags: { name: "crew" },
    timeout: "35s",
  });
  if (response.status !== expected) {
    exec.test.abort(`${method} /admin${path}: ${response.status} ${response.body}, expected ${expected}`);
  }
  return expected === 204 ? null : response.json();
}

// The poll's audit, with all its rejections added up.
export function audit(poll) {
  const answer = crew("GET", `/polls/${poll}/audit`, null, 200);
  answer.rejectedVotes = Object.values(answer.rejected).reduce((sum, n) => sum + n, 0);
  return answer;
}

// What the virtual users added to a counter of ours, once k6 has taken in all of it.
export function counted(metric) {
  sleep(1); // k6 collects samples every 50 ms; there is no way to ask whether it has them all.
  const response = http.get(`${K6_API}/v1/metrics/${metric}`, { responseType: "text", tags: { name: "k6" } });
  return response.status === 200 ? response.json("data.attributes.sample.count") : 0;
}

// Reads the audit until `isComplete(audit)`, or until nothing has moved for long: {audit, seconds}, where the seconds
// run from `sinceMs` to the read that saw the last vote.
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

// One of the local stack's own figures, or null where there are none (a deployed stack).
export function localMetric(name, labels) {
  const response = http.get(`${BASE_URL}/_local/metrics`, { responseType: "text", tags: { name: "metrics" } });
  if (response.status !== 200) {
    return null;
  }
  const line = response.body.split("\n").find((l) => l.startsWith(`${name}{`) && l.includes(labels));
  return line ? Number(line.slice(line.lastIndexOf(" "))) : 0;
}
