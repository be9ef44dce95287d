// Installs a Python program with its hashed requirements into a virtual environment of its own.
// @ts-check

import path from 'node:path';
import { paths, toolVenvOf } from './paths.mjs';
import { contentHash, isStamped, writeStamp } from './stamps.mjs';
import { runTool } from './tools.mjs';

/**
 * @param {string} program the name of its requirements file; uv and the backend's Python must be there
 * @returns {Promise<string>} a word for the step's line
 */
export async function installProgram(program) {
  const { folder, stamp } = toolVenvOf(program);
  const requirements = path.join(paths.requirements, `${program}.txt`);
  // The stamp lies inside and is written last: a deleted or interrupted installation is made again.
  const hash = contentHash([requirements]);
  if (isStamped(stamp, hash)) return 'up to date';
  const log = path.join(paths.logs, `${program}.log`);
  await runTool(
    'Making the virtual environment',
    paths.uv,
    ['venv', '--clear', '--python', paths.python, folder],
    {
      log,
    },
  );
  await runTool(
    'Installing the Python packages',
    paths.uv,
    ['pip', 'install', '--python', folder, '--require-hashes', '-r', requirements],
    { log },
  );
  writeStamp(stamp, hash);
  return 'installed';
}
