// A crowd of viewers before the pages of ./page.js: signed in, with a poll with a limit and one without. The first opens by
// its schedule, the second when the crew opens it; the pages learn of both as they do on air. Who votes does so in both and
// has both in view, who watches has one.
//
// A run stands for VIEWERS viewers and has VIEWERS / SCALE of them. What an audience of that size shares is divided by SCALE
// as well (scripts/scaled.py): the gateway's throttles, the concurrency of the public reads, and the size of a batch. So a
// refusal, or a wait for a throttle, befalls the same share of the viewers as on air, and a batch fills in the same time. Not
// divided is what does not depend on their number: the pages' intervals, a cut every 3 s, a file of 4 KiB. Not shown is what
// only the full number shows: hundreds of files in a cut, and the gateway's and the edge's own work. Harder than on air: the
// fewer the requests, the more their number varies from second to second. The sign-in happened before, as for people who wait
// for a show; the pages' own code comes from their caches.

import { check, sleep } from "k6";
import { SharedArray } from "k6/data";
import exec from "k6/execution";
import { Counter, Gauge, Rate, Trend } from "k6/metrics";
import { setTimeout } from "k6/timers";

import { Page } from "./page.js";
import {
  counted,
  crew,
  number,
  originReads,
  p99Below,
  PATIENCE,
  readResults,
  tokens,
  waitForFile,
  waitUntilCounted,
} from "./stack.js";

const CONTESTANTS = 20;
const TAPS_MAX = 10;
const TAP_EVERY_MS = 150;
const PAGES_PER_VU = 50;
// Pages are opened within this time, and are at rest before the opening.
const ARRIVE_SECONDS = 4;
const LEAD_SECONDS = 12 + Math.min(PATIENCE, 8);
const MINUTE_MS = 60_000;
// Within this time after the opening every page knows of it: the list's pace near it, the crew's request, and a file.
const LEARN_MS = 15_000;
// For votes of the minute's end to be found.
const FIND_SECONDS = 20;
const COUNTED_P50_SECONDS = 8;
const COUNTED_P99_SECONDS = 12;
// Probes after the close, on a queue with a stretched window, and the next ticks.
const CERTIFIED_SECONDS = 60;
// CERTIFY_SIGN_SECONDS, 146 s, after a sign of a failed batch, and the time above.
const CERTIFIED_PATIENCE_SECONDS = 240;
// A vote sent this long after the request to close was sent after the close.
const CLOSE_TAKES_MS = 2000;
// Viewers who tap in the last seconds and, as their page does not know yet, after the close.
const LATE_SHARE = 0.05;
const LATE_FROM_MS = -5_000;
const LATE_TO_MS = 7_000;
const EDGE_SECONDS = 3;
// The list; of each poll the file and two files of a cut.
const ORIGIN_REQUESTS_PER_TICK = 1 + 2 * 3;
const VOTES_PER_ORIGIN_REQUEST = 100;

const voters = new SharedArray("tokens", tokens);

const accepted = new Counter("votes_accepted");
const surelyInTime = new Counter("votes_before_close");
const surelyLate = new Counter("votes_after_close");
const refused = new Counter("votes_refused");
const votedInTime = new Rate("viewers_voted_within_a_minute");
const countedSeconds = new Trend("seconds_from_202_to_counted");
const lookedUp = new Rate("votes_found_in_the_log");
const judged = new Counter("pages_judged");
const sawCertificate = new Rate("pages_with_the_certificate");
const votesCounted = new Gauge("votes_counted");
const votesRejected = new Gauge("votes_rejected");
const secondsToCount = new Gauge("seconds_from_last_post_to_last_count");
const secondsToCertify = new Gauge("seconds_from_close_to_certified_file");
const originShare = new Gauge("origin_requests_of_allowed");

const hasFoundItsVotes = ({ taps, polls, requests }) =>
  requests.every(({ state }) => state === "decided" || state === "refused") &&
  (!taps || polls.every((poll) => requests.some((request) => request.poll === poll)));

export class Crowd {
  // `viewers`, `scale`: the defaults of VIEWERS and SCALE. `tapping`: the share of viewers who vote, in both polls, within
  // `tapSeconds` (TAP_SECONDS) after their page shows the poll. `closeSeconds` (CLOSE_SECONDS): when the crew closes,
  // counted from the opening; null: not within the run.
  constructor({ viewers, scale, tapping, tapSeconds, closeSeconds }) {
    this.viewers = Math.max(1, Math.round(number("VIEWERS", viewers) / number("SCALE", scale)));
    this.tapping = tapping;
    this.tapMs = number("TAP_SECONDS", tapSeconds) * 1000;
    this.closeMs = closeSeconds && number("CLOSE_SECONDS", closeSeconds) * 1000;
    this.vus = Math.ceil(this.viewers / PAGES_PER_VU);
  }

  // Returns the scenario's options; it exports `watch` and `direct`.
  options() {
    const once = { executor: "per-vu-iterations", iterations: 1, maxDuration: "15m" };
    return {
      scenarios: {
        watch: { ...once, exec: "watch", vus: this.vus },
        direct: { ...once, exec: "direct", vus: 1 },
      },
      systemTags: ["name", "check", "status", "error_code", "scenario"],
      setupTimeout: "3m",
      teardownTimeout: "30m",
      summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
      thresholds: {
        checks: ["rate==1"],
        votes_refused: ["count==0"],
        viewers_voted_within_a_minute: ["rate==1"],
        votes_found_in_the_log: ["rate==1"],
        seconds_from_202_to_counted: [
          `p(50)<=${COUNTED_P50_SECONDS * PATIENCE}`,
          `p(99)<=${COUNTED_P99_SECONDS * PATIENCE}`,
        ],
        origin_requests_of_allowed: ["value<=1"],
        "http_req_failed{name:GET /results/polls.json}": ["rate==0"],
        "http_req_failed{name:GET /results}": ["rate==0"],
        "http_req_failed{name:GET /results/names}": ["rate==0"],
        "http_req_failed{name:GET /log}": ["rate==0"],
        "http_req_duration{name:POST /votes}": [p99Below(1000)],
        "http_req_duration{name:GET /results}": [p99Below(500)],
        "http_req_duration{name:GET /log}": [p99Below(500)],
        ...(this.closeMs && {
          pages_with_the_certificate: ["rate==1"],
          seconds_from_close_to_certified_file: [`value<${CERTIFIED_SECONDS * PATIENCE}`],
        }),
      },
    };
  }

  setup() {
    if (voters.length < this.viewers) {
      exec.test.abort(`${this.viewers} viewers need as many TOKENS, not ${voters.length}`);
    }
    const contestants = Array.from({ length: CONTESTANTS }, (_, i) => ({ number: i + 1, name: `Contestant ${i + 1}` }));
    const poll = { title: "Load test", results: "live", draft: false, contestants };
    const opensAtMs = Date.now() + LEAD_SECONDS * 1000;
    const opensAt = new Date(opensAtMs).toISOString();
    const limited = crew("POST", "/polls", { ...poll, opensAt, votesPerVoter: 1 }, 201).id;
    const unlimited = crew("POST", "/polls", { ...poll, tapsMax: TAPS_MAX }, 201).id;
    return { limited, unlimited, opensAtMs, before: originReads(), beforeMs: Date.now() };
  }

  // One virtual user's pages, until their votes are found and, where the polls are closed, their results certified.
  async watch(data) {
    const first = exec.scenario.iterationInTest;
    const pages = [];
    for (let viewer = first; viewer < this.viewers; viewer += this.vus) pages.push(this.open(data, voters[viewer]));
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const lastMs = data.opensAtMs + MINUTE_MS * Math.min(PATIENCE, 2) + FIND_SECONDS * 1000;
    const certifiedMs = data.opensAtMs + (this.closeMs || 0) + (CERTIFIED_PATIENCE_SECONDS + FIND_SECONDS) * 1000;
    const isDone = () => Date.now() > data.opensAtMs + this.tapMs + LEARN_MS && pages.every(hasFoundItsVotes);
    const isOver = () =>
      this.closeMs
        ? Date.now() > certifiedMs || (pages.every((page) => page.isCertified()) && Date.now() > this.foundBy(data))
        : Date.now() > lastMs || isDone();
    while (!isOver()) await wait(500);
    pages.forEach((page) => page.stop());
    pages.forEach((page) => this.judge(page));
  }

  // The moment by which the latest votes are found.
  foundBy({ opensAtMs }) {
    return opensAtMs + this.closeMs + LATE_TO_MS + FIND_SECONDS * 1000;
  }

  open({ limited, unlimited, opensAtMs }, token) {
    const closeAtMs = this.closeMs ? opensAtMs + this.closeMs : Infinity;
    const [polls, taps] = [[limited, unlimited], Math.random() < this.tapping];
    const page = new Page({
      token,
      polls,
      inView: taps ? polls : [polls[Math.floor(Math.random() * polls.length)]],
      hooks: {
        onOpen: (page, poll) => this.decideToTap(page, poll, closeAtMs),
        onAnswer: (request, status) => {
          if (status !== 202) refused.add(1, { answer: String(status) });
        },
        onSent: (request) => {
          accepted.add(request.votes.length);
          if (request.sentAt < closeAtMs) surelyInTime.add(request.votes.length);
          else if (request.triedAt > closeAtMs + CLOSE_TAKES_MS) surelyLate.add(request.votes.length);
        },
        onDecided: ({ votes, sentAt }) => {
          if (votes.every(({ outcome }) => outcome === "counted")) countedSeconds.add((Date.now() - sentAt) / 1000);
        },
      },
    });
    page.taps = taps;
    page.start(Math.random() * ARRIVE_SECONDS);
    return page;
  }

  // The taps of a viewer in a poll that the page has just shown as open.
  decideToTap(page, poll, closeAtMs) {
    const contestant = 1 + Math.floor(Math.random() * Math.random() * CONTESTANTS);
    const burst = () => {
      const taps = poll.tapsMax > 1 ? 1 + Math.floor(Math.random() * TAPS_MAX) : 1;
      for (let i = 0; i < taps; i++) {
        setTimeout(() => page.isOpen(poll.id) && page.tap(poll, contestant), i * TAP_EVERY_MS);
      }
    };
    if (page.taps) setTimeout(burst, Math.random() * this.tapMs);
    if (page.taps && poll.tapsMax > 1 && Math.random() < LATE_SHARE && closeAtMs < Infinity) {
      setTimeout(burst, closeAtMs + LATE_FROM_MS + Math.random() * (LATE_TO_MS - LATE_FROM_MS) - Date.now());
    }
  }

  judge(page) {
    const { requests, polls } = page;
    judged.add(1);
    requests.filter(({ state }) => state !== "waiting").forEach(({ state }) => lookedUp.add(state === "decided"));
    if (this.closeMs) sawCertificate.add(page.isCertified());
    if (!page.taps) return;
    const isInTime = ({ sentAt, opensAt }) => sentAt - opensAt <= MINUTE_MS;
    votedInTime.add(polls.every((poll) => requests.some((request) => request.poll === poll && isInTime(request))));
  }

  // The crew: opens the poll without a limit, and closes both.
  direct({ limited, unlimited, opensAtMs }) {
    sleep(Math.max(0, opensAtMs - Date.now()) / 1000);
    crew("POST", `/polls/${unlimited}/open`, null, 200);
    waitForFile(unlimited);
    if (!this.closeMs) return;
    sleep(Math.max(0, opensAtMs + this.closeMs - Date.now()) / 1000);
    const closedMs = Date.now();
    for (const poll of [unlimited, limited]) {
      const closed = crew("POST", `/polls/${poll}/close`, null, 200);
      check(closed, { "the poll is closed": (p) => p.status === "closed" });
    }
    const isCertified = (poll) => (readResults(poll, true).body || {}).certified === true;
    const deadline = closedMs + CERTIFIED_PATIENCE_SECONDS * 1000;
    while (![limited, unlimited].every(isCertified) && Date.now() < deadline) sleep(0.5);
    secondsToCertify.add((Date.now() - closedMs) / 1000);
  }

  teardown({ limited, unlimited, before, beforeMs }) {
    const lastPostMs = Date.now();
    const asked = before === null ? null : originReads() - before;
    const expected = counted("votes_accepted");
    const decided = [limited, unlimited].map((poll) =>
      waitUntilCounted(poll, lastPostMs, (audit) => audit.inSync && (this.closeMs || audit.casts > 0)),
    );
    const sum = (value) => decided.reduce((total, { audit }) => total + value(audit), 0);
    const casts = sum((audit) => audit.casts);
    const rejected = sum((audit) => audit.rejectedVotes);
    const tooLate = sum((audit) => audit.rejected.afterClosing || 0);
    votesCounted.add(casts);
    votesRejected.add(rejected);
    secondsToCount.add(Math.max(...decided.map(({ seconds }) => seconds)));
    check(counted("pages_judged"), { "no page has failed": (pages) => pages === this.viewers });
    check(decided, {
      "counted and rejected make all that was accepted": () => expected > 0 && casts + rejected === expected,
      "every vote before the close is counted": () => casts >= counted("votes_before_close"),
      "every vote after the close is rejected as that": () =>
        rejected === tooLate && rejected >= counted("votes_after_close"),
      "ledger, tally and ranking agree": (polls) => polls.every(({ audit }) => audit.inSync),
    });
    if (this.closeMs) this.checkFiles(decided);
    else [limited, unlimited].forEach((poll) => crew("POST", `/polls/${poll}/close`, null, 200));
    const taps = sum((audit) => audit.ledgerVotes);
    console.log(`${expected} accepted = ${casts} counted, with ${taps} taps, + ${rejected} after the close`);
    if (asked !== null) this.judgeOrigin(asked, casts, (lastPostMs - beforeMs) / 1000);
  }

  checkFiles(decided) {
    for (const { audit } of decided) {
      check(readResults(audit.poll, true).body || {}, {
        "the certified file is out": (file) => file.certified === true,
        "and says what was counted": (file) =>
          file.totalVotes === audit.ledgerVotes && file.turnout.votes === audit.ledgerVotes,
      });
    }
  }

  judgeOrigin(asked, casts, seconds) {
    const ticks = Math.ceil(seconds / EDGE_SECONDS) + 1;
    const most = ORIGIN_REQUESTS_PER_TICK * ticks + casts / VOTES_PER_ORIGIN_REQUEST;
    originShare.add(asked / most);
    console.log(`${asked} reads from origins in ${ticks} ticks for ${casts} votes; at most ${Math.floor(most)}`);
  }
}
