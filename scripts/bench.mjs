// `npm run bench -- NAME [--json]`: its own set-up, then `bench/NAME.mts`, `.mjs` or `.py` with the arguments that follow.
// @ts-check

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { backendEnv } from './lib/backend.mjs';
import { Failure, printFailure } from './lib/failure.mjs';
import { findNode24, findTool } from './lib/node24.mjs';
import { paths, root } from './lib/paths.mjs';
import { setUp } from './lib/set-up.mjs';

const folder = path.join(root, 'bench');

async function main() {
  const [name, ...args] = process.argv.slice(2);
  const files = readdirSync(folder).filter(
    (file) => /^[a-z0-9-]+\.(?:mts|mjs|py)$/.test(file) && file !== 'report.mjs',
  );
  const file = files.find((candidate) => path.parse(candidate).name === name);
  if (!file)
    throw new Failure(
      `Name a bench: npm run bench -- ${files.map((candidate) => path.parse(candidate).name).join(' | ')} [--json].`,
    );
  const needsBackend = !file.endsWith('.mts');
  await setUp(needsBackend ? { python: 'test', model: true } : { python: 'none', model: false });
  const [command, ...tool] = runnerOf(file);
  const child = spawn(command, [...tool, path.join(folder, file), ...args], {
    cwd: root,
    env: backendEnv({ ATTUNE_MODELS_DIR: paths.models }),
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  });
  if (code !== 0) throw new Failure(`The bench ${name} failed.`);
}

/**
 * What runs a bench of this language; those in TypeScript measure the edge, whose tools want a current Node.
 * @param {string} file
 * @returns {[string, ...string[]]}
 */
function runnerOf(file) {
  if (file.endsWith('.py')) return [paths.python];
  return file.endsWith('.mts') ? [findNode24(), findTool('tsx')] : [process.execPath];
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
