// Remembers by content hash which steps are done, so that a repeated start skips them without asking any tool.
// @ts-check

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/**
 * One hash over the content of files and folders (recursively, in name order) and some plain words.
 * @param {string[]} inputs paths that must exist
 * @param {string[]} [words] other things the step depends on
 */
export function contentHash(inputs, words = []) {
  const hash = createHash('sha256');
  for (const input of inputs) {
    for (const file of filesOf(input)) {
      hash
        .update(path.relative(path.dirname(input), file))
        .update('\0')
        .update(readFileSync(file))
        .update('\0');
    }
  }
  for (const word of words) hash.update(word).update('\0');
  return hash.digest('hex');
}

/**
 * @param {string} input
 * @returns {string[]}
 */
function filesOf(input) {
  if (!statSync(input).isDirectory()) return [input];
  return readdirSync(input)
    .filter((name) => name !== '__pycache__')
    .sort()
    .flatMap((name) => filesOf(path.join(input, name)));
}

/**
 * Whether the step was done with exactly this content.
 * @param {string} stamp
 * @param {string} hash
 */
export function isStamped(stamp, hash) {
  return existsSync(stamp) && readFileSync(stamp, 'utf8').trim() === hash;
}

/**
 * @param {string} stamp
 * @param {string} hash
 */
export function writeStamp(stamp, hash) {
  mkdirSync(path.dirname(stamp), { recursive: true });
  writeFileSync(stamp, `${hash}\n`);
}
