// Every check of `npm run check`: what it is called and how it is done.
// @ts-check

import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { lockComplaints, requirementsComplaints } from './addresses.mjs';
import { PYTEST, backendEnv } from './backend.mjs';
import { Failure } from './failure.mjs';
import { findNode24, findTool } from './node24.mjs';
import { homeOf, paths, root } from './paths.mjs';
import { checkSdk } from './sdk.mjs';
import { runTool } from './tools.mjs';
import { wrangler } from './wrangler.mjs';

/** @typedef {{ name: string, run: () => Promise<unknown> }} Check */

const PACKAGE_LOCKS = [
  'package-lock.json',
  'sdk/typescript/generator/package-lock.json',
  'test/browser/package-lock.json',
];
const PYTHON_FOLDERS = ['gpu-backend', 'test', 'bench', 'examples'];

/** The slow ones first, so that two at a time end together. @type {Check[]} */
export const checks = [
  python('Python types', [
    '-m',
    'mypy',
    '--config-file',
    'gpu-backend/pyproject.toml',
    'gpu-backend/gpu_backend',
  ]),
  { name: 'deploy bundle', run: dryRun },
  node('OpenAPI rules', 'spectral', ['lint', 'openapi.yaml', '--fail-severity', 'warn']),
  node('OpenAPI is current', 'tsx', ['functions/openapi.export.ts', '--check']),
  { name: 'SDK is current', run: checkSdk },
  node('TypeScript types', 'tsc', ['--noEmit']),
  node('SDK types', 'tsc', ['--noEmit', '-p', 'sdk/typescript/tsconfig.json']),
  node('SDK test types', 'tsc', ['--noEmit', '-p', 'test/sdk/tsconfig.json']),
  node('script types', 'tsc', ['--noEmit', '-p', 'scripts/tsconfig.json']),
  node('bench types', 'tsc', ['--noEmit', '-p', 'bench/tsconfig.json']),
  node('story and example types', 'tsc', ['--noEmit', '-p', 'test/e2e/tsconfig.json']),
  node('browser test types', 'tsc', ['--noEmit', '-p', 'test/browser/tsconfig.json']),
  python('Python imports', [...PYTEST, 'test/backend/test_import_direction.py']),
  node('TypeScript lint and imports', 'oxlint', ['--deny-warnings', '--type-aware']),
  node('TypeScript format', 'oxfmt', ['--check']),
  python('Python lint', ['-m', 'ruff', 'check', ...PYTHON_FOLDERS]),
  python('Python format', ['-m', 'ruff', 'format', '--check', ...PYTHON_FOLDERS]),
  { name: 'no addresses in lock files', run: lockFiles },
];

/** @param {string} name */
const logOf = (name) => path.join(paths.logs, 'check', `${name.replaceAll(' ', '-')}.log`);

/**
 * @param {string} name
 * @param {string} tool
 * @param {string[]} args
 * @returns {Check}
 */
function node(name, tool, args) {
  return {
    name,
    run: () => runTool(name, findNode24(), [findTool(tool), ...args], { log: logOf(name), isVerdict: true }),
  };
}

/**
 * @param {string} name
 * @param {string[]} args
 * @returns {Check}
 */
function python(name, args) {
  return {
    name,
    run: () => runTool(name, paths.python, args, { log: logOf(name), env: backendEnv(), isVerdict: true }),
  };
}

async function dryRun() {
  const name = 'deploy bundle';
  const out = path.join(paths.shared, 'bundle');
  const call = wrangler(['deploy', '--dry-run', '--outdir', out], homeOf('.attune'));
  await runTool(name, call.command, call.args, { env: call.env, log: logOf(name), isVerdict: true });
}

async function lockFiles() {
  const requirements = readdirSync(paths.requirements).filter((name) => name.endsWith('.txt'));
  const complaints = [
    ...PACKAGE_LOCKS.flatMap((name) =>
      lockComplaints(readFileSync(path.join(root, name), 'utf8')).map((line) => `${name}: ${line}`),
    ),
    ...requirements.flatMap((name) =>
      requirementsComplaints(readFileSync(path.join(paths.requirements, name), 'utf8')).map(
        (line) => `${name}: ${line}`,
      ),
    ),
  ];
  if (requirements.length === 0) complaints.push('gpu-backend/requirements holds no .txt file');
  if (complaints.length > 0)
    throw new Failure('Pinned packages must name no address and have a hash.', { lastLines: complaints });
}
