// Runs a Python module of the backend that needs the training packages, after setting those up.
// @ts-check

import { spawn } from 'node:child_process';
import { backendEnv } from './backend.mjs';
import { Failure } from './failure.mjs';
import { paths, root } from './paths.mjs';
import { setUp } from './set-up.mjs';

/**
 * @param {string} module
 * @param {string[]} args as typed; `--models-dir` is added where they do not name it
 */
export async function runPythonModule(module, args) {
  await setUp({ python: 'train', model: true });
  const named = args.some((arg) => arg === '--models-dir' || arg.startsWith('--models-dir='));
  const child = spawn(
    paths.python,
    ['-m', module, ...args, ...(named ? [] : ['--models-dir', paths.models])],
    { cwd: root, env: backendEnv(), stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  });
  if (code !== 0) throw new Failure(`${module} failed; what it said stands above.`);
}
