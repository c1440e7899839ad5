// Where the pages run: /config.json, written when they are published.

import { deadline } from "/shared/newer.js";

const TIMEOUT_MS = 10_000;

let loading = null;

export function config() {
  loading ??= fetch("/config.json", { signal: deadline(TIMEOUT_MS) }).then((response) => {
    if (!response.ok) throw new Error(`config.json: ${response.status}`);
    return response.json();
  });
  loading.catch(() => (loading = null));
  return loading;
}
