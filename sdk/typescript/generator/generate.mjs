// Writes the types and operations of openapi.yaml into the folder that is given; started by scripts/sdk.mjs.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createClient } from '@hey-api/openapi-ts';

const [input, output] = process.argv.slice(2);
if (input === undefined || output === undefined) throw new Error('usage: generate.mjs OPENAPI_FILE FOLDER');

await createClient({
  input,
  output,
  logs: { level: 'warn', file: false },
  // The pages of the reference are for people.
  parser: { filters: { tags: { exclude: ['Docs'] } } },
  plugins: ['@hey-api/typescript', '@hey-api/client-fetch', '@hey-api/sdk'],
});

// The generator's comments link to pages of its own; only their words are of use here. Its run-time part
// does not compile with `exactOptionalPropertyTypes`, which whoever imports our sources may have set.
for (const name of readdirSync(output, { recursive: true, encoding: 'utf8' })) {
  if (!name.endsWith('.ts')) continue;
  const file = path.join(output, name);
  const text = readFileSync(file, 'utf8').replaceAll(/\{@link \S+?(?: ([^}]+))?\}/g, '$1');
  writeFileSync(file, /^(?:client|core)\b/.test(name) ? `// @ts-nocheck\n${text}` : text);
}
