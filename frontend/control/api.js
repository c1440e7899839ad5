// The crew's routes.

import { config } from "/shared/files.js";
import { bearer, endSession } from "/shared/session.js";
import { deadline } from "/shared/fallbacks.js";
import { learnTime } from "/shared/clock.js";

const TIMEOUT_MS = 30_000;

/** An error answer of the service. `details`: the fields of its error. */
export class ApiError extends Error {
  constructor(status, details) {
    super(details.message ?? String(status));
    Object.assign(this, { status, code: details.code, details });
  }
}

/**
 * Calls a route. Resolves to `answer`, the body or null, and `version`, the poll's `ETag` or null. A given `version` is a
 * precondition (`If-Match`): the service answers 412 if the poll has another one.
 *
 * @throws {ApiError} for an answer other than success.
 */
export async function request(method, path, body, version = null) {
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
  if (!response.ok) throw new ApiError(response.status, answer?.error ?? answer ?? {});
  // An edge that compresses makes ETags weak, and `If-Match` never matches a weak one.
  return { answer, version: response.headers.get("etag")?.replace(/^W\//, "") ?? null };
}

/** Calls a route, and resolves to its body or null. */
export async function call(method, path, body, version) {
  return (await request(method, path, body, version)).answer;
}
