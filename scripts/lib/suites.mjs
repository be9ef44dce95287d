// The test suites of both languages: what each one runs.
// @ts-check

import { readdirSync } from 'node:fs';
import path from 'node:path';
import { PYTEST, backendEnv } from './backend.mjs';
import { Failure } from './failure.mjs';
import { findNode24, findTool } from './node24.mjs';
import { paths, root } from './paths.mjs';

/** @typedef {{ command: string, args: string[], env: Record<string, string | undefined> }} Call */
/**
 * @typedef {object} Suite
 * @property {string} name
 * @property {'none' | 'test'} python
 * @property {boolean} model
 * @property {string} [packages] a folder with packages of its own; such a suite runs only when it is named
 * @property {string} [program] a Python program with requirements of its own; the same holds
 * @property {() => Call} call
 */

/** In the order in which a failure is cheapest to find. @type {Suite[]} */
export const suites = [
  { name: 'scripts', python: 'none', model: false, call: scriptTests },
  { name: 'edge', python: 'none', model: false, call: () => vitest('edge') },
  { name: 'sdk', python: 'none', model: false, call: () => vitest('sdk') },
  { name: 'backend', python: 'test', model: true, call: pytest },
  { name: 'e2e', python: 'test', model: true, call: () => vitest('e2e') },
  {
    name: 'browser',
    python: 'test',
    model: true,
    packages: path.join(root, 'test', 'browser'),
    call: () => vitest('browser'),
  },
  { name: 'schema', python: 'test', model: true, program: 'schema', call: () => vitest('schema') },
];

/** @param {string[]} names none means all that need no packages of their own */
export function chooseSuites(names) {
  const unknown = names.find((name) => !suites.some((suite) => suite.name === name));
  if (unknown)
    throw new Failure(
      `There is no test suite "${unknown}": the suites are ${suites.map(({ name }) => name).join(', ')}.`,
    );
  return suites.filter(({ name, packages, program }) =>
    names.length === 0 ? packages === undefined && program === undefined : names.includes(name),
  );
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
