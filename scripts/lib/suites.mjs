// The test suites of both languages: what each one runs.
// @ts-check

import { readdirSync } from 'node:fs';
import path from 'node:path';
import { PYTEST, backendEnv } from './backend.mjs';
import { Failure } from './failure.mjs';
import { findNode24, findTool } from './node24.mjs';
import { paths, root } from './paths.mjs';

/** @typedef {{ command: string, args: string[], env: Record<string, string | undefined> }} Call */
/** @typedef {{ name: string, python: 'none' | 'test', model: boolean, call: () => Call }} Suite */

/** In the order in which a failure is cheapest to find. @type {Suite[]} */
export const suites = [
  { name: 'scripts', python: 'none', model: false, call: scriptTests },
  { name: 'edge', python: 'none', model: false, call: () => vitest('edge') },
  { name: 'sdk', python: 'none', model: false, call: () => vitest('sdk') },
  { name: 'backend', python: 'test', model: true, call: pytest },
  { name: 'e2e', python: 'test', model: true, call: () => vitest('e2e') },
];

/** @param {string[]} names none means all */
export function chooseSuites(names) {
  const unknown = names.find((name) => !suites.some((suite) => suite.name === name));
  if (unknown)
    throw new Failure(
      `There is no test suite "${unknown}": the suites are ${suites.map(({ name }) => name).join(', ')}.`,
    );
  return names.length === 0 ? suites : suites.filter(({ name }) => names.includes(name));
}

/** @returns {Call} */
function scriptTests() {
  const folder = path.join(root, 'test', 'scripts');
  const files = readdirSync(folder).filter((name) => name.endsWith('.test.mjs'));
  // `node --test` is content with no file at all.
  if (files.length === 0) throw new Failure('test/scripts holds no test.');
  return {
    command: process.execPath,
    args: ['--test', ...files.map((name) => path.join(folder, name))],
    env: process.env,
  };
}

/**
 * @param {string} project
 * @returns {Call}
 */
function vitest(project) {
  const node = findNode24();
  return {
    command: node,
    args: [findTool('vitest'), 'run', '--project', project],
    env: {
      ...process.env,
      PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH ?? ''}`,
      CLOUDFLARE_CF_FETCH_ENABLED: 'false',
      WRANGLER_SEND_METRICS: 'false',
    },
  };
}

/** @returns {Call} */
function pytest() {
  return {
    command: paths.python,
    args: [...PYTEST, '-m', 'not gpu', 'test/backend'],
    env: backendEnv({ ATTUNE_MODELS_DIR: paths.models }),
  };
}
