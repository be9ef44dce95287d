// Has the embedded model fetched, checked and converted once, and the native kernels compiled.
// @ts-check

import { existsSync } from 'node:fs';
import path from 'node:path';
import { backendEnv } from './backend.mjs';
import { paths, root } from './paths.mjs';
import { contentHash, isStamped, writeStamp } from './stamps.mjs';
import { runTool } from './tools.mjs';

const FOLDER = 'smollm2-135m-instruct';

/** @returns {Promise<string>} a word for the step's line */
export async function prepareModel() {
  const stamp = path.join(paths.models, '.prepared');
  const inputs = ['models.toml', 'gpu_backend/prepare.py', 'gpu_backend/kernels'].map((input) =>
    path.join(root, 'gpu-backend', input),
  );
  const hash = contentHash(inputs);
  if (isStamped(stamp, hash) && existsSync(path.join(paths.models, FOLDER))) return 'up to date';
  await runTool(
    'Preparing the embedded model',
    paths.python,
    ['-m', 'gpu_backend.prepare', '--models-dir', paths.models],
    {
      log: path.join(paths.logs, 'model.log'),
      env: backendEnv(),
    },
  );
  writeStamp(stamp, hash);
  return 'prepared';
}
