// What the pages say: every text is there in English, and in every other language.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const PAGES = fileURLToPath(new URL("..", import.meta.url));
const LEFT_OUT = ["tests", "vendor"];

function sources(folder = PAGES) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) return LEFT_OUT.includes(entry.name) ? [] : sources(file);
    return /\.(js|html)$/.test(entry.name) ? [[path.relative(PAGES, file), readFileSync(file, "utf8")]] : [];
  });
}

/** The texts that a module exports. It is no package's: this folder's alone are modules to Node.js. */
async function english(name) {
  const source = readFileSync(path.join(PAGES, "text", name));
  return Object.values(await import(`data:text/javascript;base64,${source.toString("base64")}`))[0];
}

describe("texts", () => {
  for (const part of ["public", "control"]) {
    test(`${part}: every language has every text`, async () => {
      const there = Object.keys(await english(`${part}.en.js`)).sort();
      const files = readdirSync(path.join(PAGES, "text")).filter((file) => file.startsWith(part) && file.endsWith(".json"));
      assert.ok(files.length, "no other language");
      for (const file of files) {
        const translated = JSON.parse(readFileSync(path.join(PAGES, "text", file), "utf8"));
        assert.deepEqual(Object.keys(translated).sort(), there, file);
      }
    });
  }

  test("what the pages ask for is there", async () => {
    const viewers = await english("public.en.js");
    const crew = { ...viewers, ...(await english("control.en.js")) };
    for (const [file, source] of sources()) {
      const there = Object.keys(file.startsWith("control") ? crew : viewers);
      const asked = [...source.matchAll(/\bt\(\s*["`]([\w.]+)|data-t(?:-label)?="([\w.]+)"/g)];
      for (const [, said, marked] of asked) {
        const key = said ?? marked;
        assert.ok(there.some((known) => known === key || (key.endsWith(".") && known.startsWith(key))), `${file}: ${key}`);
      }
    }
  });
});
