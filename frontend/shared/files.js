// The public files.

import { deadline } from "/shared/fallbacks.js";

export const TIMEOUT_MS = 10_000;
export const MISSING = 404;

/** Returns a file's content, or null if there is no file. */
export async function read(path) {
  const response = await fetch(path, { signal: deadline(TIMEOUT_MS) });
  if (response.status === MISSING) return null;
  if (!response.ok) throw new Error(response.status);
  return response.json();
}

/** Returns a file's bytes, or null without an answer. */
export async function readBytes(path) {
  try {
    const response = await fetch(path, { signal: deadline(TIMEOUT_MS) });
    return response.ok ? new Uint8Array(await response.arrayBuffer()) : null;
  } catch {
    return null;
  }
}

const reading = new Map();

/** Reads a file that does not change while the page is open. */
export function readOnce(path) {
  if (!reading.has(path)) {
    const forget = (body) => body ?? reading.delete(path);
    reading.set(path, read(path));
    reading.get(path).then(forget, () => forget());
  }
  return reading.get(path);
}

/** Loads /config.json, which is written at publication. */
export const config = () => readOnce("/config.json");
