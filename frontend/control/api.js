// The crew's routes.

import { config } from "/shared/config.js";
import { bearer, endSession } from "/shared/session.js";
import { deadline } from "/shared/newer.js";
import { learnTime } from "/shared/clock.js";

const TIMEOUT_MS = 30_000;

/** What the service says is wrong, in its own words where it has some. */
export class Refusal extends Error {
  constructor(status, message, code) {
    super(message);
    Object.assign(this, { status, code });
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
    signal: deadline(TIMEOUT_MS),
  });
  learnTime(response);
  if (response.status === 401) endSession();
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw new Refusal(response.status, answer?.error?.message ?? answer?.message ?? String(response.status), answer?.error?.code);
}
