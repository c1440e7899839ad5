// The crew's routes.

import { config } from "/shared/config.js";
import { bearer, endSession } from "/shared/session.js";
import { learnTime } from "/shared/clock.js";

const TIMEOUT_MS = 30_000;

/** What the service says is wrong, in its own words where it has some. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Calls a route and gives its answer; null where it has none. */
export async function call(method, path, body) {
  const { api } = await config();
  const headers = { authorization: bearer() ?? "" };
  if (body) headers["content-type"] = "application/json";
  const response = await fetch(api + path, {
    method,
    headers,
    body: body && JSON.stringify(body),
    cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  learnTime(response);
  if (response.status === 401) endSession();
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw new Refusal(response.status, answer?.error?.message ?? answer?.message ?? String(response.status));
}

/** The whole of a text of Prometheus' format, as `name{label="value"}` → number. */
async function metrics() {
  const path = (await config()).metrics;
  if (!path) return null;
  const response = await fetch(path);
  if (!response.ok) return null;
  const lines = (await response.text()).split("\n").filter((line) => line && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]));
}

/** Votes waiting and being counted; null where the page may not know. */
export async function backlog() {
  const all = await metrics().catch(() => null);
  if (!all) return null;
  const of = (name) => all.get(`${name}{queue="VotesQueue"}`);
  const figures = [of("sqs_messages_visible"), of("sqs_messages_in_flight")];
  return figures.includes(undefined) ? null : figures[0] + figures[1];
}
