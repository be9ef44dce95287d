// Makes an instance's secrets once, and writes the env files that the edge and the examples read.
// @ts-check

import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** @typedef {{ backendSecret: string, keyPepper: string }} Secrets */

/**
 * @param {import('./paths.mjs').Home} home
 * @returns {Secrets}
 */
export function loadSecrets(home) {
  if (existsSync(home.secrets)) return JSON.parse(readFileSync(home.secrets, 'utf8'));
  const secrets = {
    backendSecret: randomBytes(32).toString('hex'),
    keyPepper: randomBytes(32).toString('hex'),
  };
  writePrivate(home.secrets, `${JSON.stringify(secrets, null, 2)}\n`);
  return secrets;
}

/**
 * A file of NAME=value lines that only its owner can read.
 * @param {string} file
 * @param {Record<string, string>} values
 */
export function writeEnv(file, values) {
  writePrivate(
    file,
    Object.entries(values)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  );
}

/**
 * JSON as a value that readers of env files take as it is: in quotes, with nothing inside that they would cut or expand.
 * @param {string} json
 */
export function quoteJson(json) {
  const escape = (/** @type {string} */ sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return `'${json.replace(/['$`]/g, escape)}'`;
}

/**
 * @param {string} file
 * @param {string} text
 */
export function writePrivate(file, text) {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text, { mode: 0o600 });
  // The mode above counts only for a new file.
  chmodSync(file, 0o600);
}
