// The pages' texts: every key exists in English and in every other language.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const PAGES = fileURLToPath(new URL("..", import.meta.url));
const EXCLUDED = ["tests", "vendor"];

function sources(folder = PAGES) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) return EXCLUDED.includes(entry.name) ? [] : sources(file);
    return /\.(js|html)$/.test(entry.name) ? [[path.relative(PAGES, file), readFileSync(file, "utf8")]] : [];
  });
}

/** Returns the texts that a module exports. A data URL, since only this folder's files are ES modules to Node.js. */
async function english(name) {
  const source = readFileSync(path.join(PAGES, "text", name));
  return Object.values(await import(`data:text/javascript;base64,${source.toString("base64")}`))[0];
}

describe("texts", () => {
  for (const part of ["public", "control"]) {
    test(`${part}: every language has every text`, async () => {
      const expected = Object.keys(await english(`${part}.en.js`)).sort();
      const files = readdirSync(path.join(PAGES, "text")).filter((file) => file.startsWith(part) && file.endsWith(".json"));
      assert.ok(files.length, "no other language");
      for (const file of files) {
        const translated = JSON.parse(readFileSync(path.join(PAGES, "text", file), "utf8"));
        assert.deepEqual(Object.keys(translated).sort(), expected, file);
      }
    });
  }

  test("every used key exists", async () => {
    const viewers = await english("public.en.js");
    const crew = { ...viewers, ...(await english("control.en.js")) };
    for (const [file, source] of sources()) {
      const keys = Object.keys(file.startsWith("control") ? crew : viewers);
      const uses = [...source.matchAll(/\bt\(\s*["`]([\w.]+)|data-t(?:-label)?="([\w.]+)"/g)];
      for (const [, called, marked] of uses) {
        const key = called ?? marked;
        assert.ok(keys.some((known) => known === key || (key.endsWith(".") && known.startsWith(key))), `${file}: ${key}`);
      }
    }
  });
});
