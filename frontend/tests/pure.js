// Modules of the pages that import nothing, for tests without a browser.

import { readFileSync } from "node:fs";

/** Loads a module by its path on the site. It is a package of no kind, and so neither is what loads it. */
export function pure(path) {
  const source = readFileSync(new URL(`..${path}`, import.meta.url), "utf8");
  return import(`data:text/javascript,${encodeURIComponent(source)}`);
}
