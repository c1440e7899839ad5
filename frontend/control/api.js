// The crew's routes.

import { config } from "/shared/config.js";
import { bearer, endSession } from "/shared/session.js";
import { deadline } from "/shared/newer.js";
import { learnTime } from "/shared/clock.js";

const TIMEOUT_MS = 30_000;

/** What the service says is wrong, in its own words where it has some. `details`: what else its answer holds. */
export class Refusal extends Error {
  constructor(status, details) {
    super(details.message ?? String(status));
    Object.assign(this, { status, code: details.code, details });
  }
}

/**
 * Calls a route: gives its answer, null where it has none, and the version of the poll that the answer is about, null
 * where it is about none. With a `version`, only while the poll still is of that version: else a Refusal of 412.
 */
export async function exchange(method, path, body, version = null) {
  const { api } = await config();
  const headers = { authorization: bearer() ?? "" };
  if (body) headers["content-type"] = "application/json";
  if (version) headers["if-match"] = version;
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
  if (!response.ok) throw new Refusal(response.status, answer?.error ?? answer ?? {});
  // A compressing edge makes tags weak ones, which match nothing.
  return { answer, version: response.headers.get("etag")?.replace(/^W\//, "") ?? null };
}

/** Calls a route and gives its answer; null where it has none. */
export async function call(method, path, body, version) {
  return (await exchange(method, path, body, version)).answer;
}
