// Brings an instance's local database up to date, and gives it a development project and key once.
// @ts-check

import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createApiKey, seedSql } from './dev-key.mjs';
import { paths } from './paths.mjs';
import { writeEnv, writePrivate } from './secrets.mjs';
import { contentHash, isStamped, writeStamp } from './stamps.mjs';
import { runTool } from './tools.mjs';
import { wrangler } from './wrangler.mjs';

/**
 * @param {import('./paths.mjs').Home} home
 * @returns {Promise<string>} a word for the step's line
 */
export async function migrate(home) {
  const stamp = path.join(home.stamps, 'migrations');
  const hash = contentHash([paths.migrations]);
  if (isStamped(stamp, hash) && existsSync(home.state)) return 'up to date';
  await d1('Applying the migrations', ['migrations', 'apply', 'DB'], 'migrations.log', home);
  writeStamp(stamp, hash);
  return 'applied';
}

/**
 * @param {import('./paths.mjs').Home} home
 * @param {{ baseUrl: string, keyPepper: string }} options
 * @returns {Promise<string>} a word for the step's line
 */
export async function seedDevKey(home, { baseUrl, keyPepper }) {
  const stamp = path.join(home.stamps, 'dev-key');
  const earlier = existsSync(home.devEnv)
    ? /^ATTUNE_API_KEY=(.+)$/m.exec(readFileSync(home.devEnv, 'utf8'))?.[1]
    : undefined;
  if (earlier && existsSync(home.state) && isStamped(stamp, contentHash([], [earlier, keyPepper]))) {
    writeEnv(home.devEnv, { ATTUNE_BASE_URL: baseUrl, ATTUNE_API_KEY: earlier });
    return 'up to date';
  }
  const made = createApiKey({ pepper: keyPepper });
  const file = path.join(home.directory, 'seed.sql');
  writePrivate(file, seedSql({ key: made }));
  await d1('Making the development key', ['execute', 'DB', '--file', file], 'seed.log', home);
  rmSync(file);
  writeEnv(home.devEnv, { ATTUNE_BASE_URL: baseUrl, ATTUNE_API_KEY: made.key });
  writeStamp(stamp, contentHash([], [made.key, keyPepper]));
  return 'made';
}

/**
 * One command of wrangler on the instance's database.
 * @param {string} what
 * @param {string[]} args
 * @param {string} log
 * @param {import('./paths.mjs').Home} home
 */
export async function d1(what, [verb, ...rest], log, home) {
  const call = wrangler(['d1', verb, ...rest, '--local', '--persist-to', home.state], home);
  await runTool(what, call.command, call.args, { env: call.env, log: path.join(home.logs, log) });
}
