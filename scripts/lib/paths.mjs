// Where things lie: what all instances share (`.attune/`) and what one instance owns (its home).
// @ts-check

import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(fileURLToPath(new URL('../..', import.meta.url)));

const shared = path.join(root, '.attune');
const venv = path.join(shared, 'venv');
const binOf = (/** @type {string} */ folder) =>
  path.join(folder, process.platform === 'win32' ? 'Scripts' : 'bin');
const venvBin = binOf(venv);

export const paths = {
  shared,
  venv,
  venvBin,
  python: path.join(venvBin, process.platform === 'win32' ? 'python.exe' : 'python'),
  uv: path.join(venvBin, process.platform === 'win32' ? 'uv.exe' : 'uv'),
  models: path.join(shared, 'models'),
  logs: path.join(shared, 'logs'),
  nodeBin: path.join(root, 'node_modules', '.bin'),
  requirements: path.join(root, 'gpu-backend', 'requirements'),
  migrations: path.join(root, 'db', 'migrations'),
};

/**
 * A Python program that must not share packages with the backend has a virtual environment of its own.
 * @param {string} program the name of its requirements file
 */
export function toolVenvOf(program) {
  const folder = path.join(shared, `venv-${program}`);
  return { folder, bin: binOf(folder), stamp: path.join(folder, '.attune-requirements') };
}

/**
 * The files of one running instance.
 * @param {string} directory as given with --home
 */
export function homeOf(directory) {
  const home = path.resolve(root, directory);
  return {
    directory: home,
    state: path.join(home, 'state'),
    logs: path.join(home, 'logs'),
    secrets: path.join(home, 'secrets.json'),
    edgeEnv: path.join(home, 'edge.env'),
    devEnv: path.join(home, 'dev.env'),
    run: path.join(home, 'run.json'),
    stamps: path.join(home, 'stamps'),
  };
}

/** @typedef {ReturnType<typeof homeOf>} Home */

/**
 * A path as a person at the repository root would type it.
 * @param {string} file
 */
export function shown(file) {
  const relative = path.relative(root, file);
  return relative.startsWith('..') ? file : relative;
}
