// Loads modules of the pages that import nothing, for tests without a browser.

import { readFileSync } from "node:fs";

/**
 * Loads a module by its path on the site, as a data URL: it belongs to no package that makes it an ES module. Each `name`
 * gets an instance with its own state.
 */
export function loadModule(path, name = "") {
  const source = readFileSync(new URL(`..${path}`, import.meta.url), "utf8");
  return import(`data:text/javascript,${encodeURIComponent(`${source}\n// ${name}`)}`);
}
