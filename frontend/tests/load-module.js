// Modules of the pages that import nothing, for tests without a browser.

import { readFileSync } from "node:fs";

/**
 * Loads a module by its path on the site. It is a package of no kind, and so neither is what loads it. With a `name`, the
 * module keeps a state of its own.
 */
export function pure(path, name = "") {
  const source = readFileSync(new URL(`..${path}`, import.meta.url), "utf8");
  return import(`data:text/javascript,${encodeURIComponent(`${source}\n// ${name}`)}`);
}
