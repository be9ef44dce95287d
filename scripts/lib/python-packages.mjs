// Makes the virtual environment and installs hashed requirements into it with uv.
// @ts-check

import { existsSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Failure } from './failure.mjs';
import { paths } from './paths.mjs';
import { findPython } from './python.mjs';
import { contentHash, isStamped, writeStamp } from './stamps.mjs';
import { runTool } from './tools.mjs';
import { splitTorch } from './torch-cpu.mjs';

/** The CUDA build of PyTorch takes 5.4 GB unpacked and uv unpacks beside its cache; the CPU build about 1 GB. */
const NEEDED_GB = { default: 7, cpu: 2 };

/** @typedef {'serve' | 'test' | 'train'} RequirementSet */
/** @typedef {'default' | 'cpu'} TorchBuild */

const stampOf = (/** @type {string} */ name) => path.join(paths.venv, `.attune-${name}`);
const requirementsOf = (/** @type {string} */ name) => path.join(paths.requirements, `${name}.txt`);

/** @returns {Promise<string>} a word for the step's line */
export async function makeVenv() {
  // The stamp is written last: a venv without it was interrupted, one with a dead interpreter lost its Python.
  if (existsSync(stampOf('venv')) && existsSync(paths.python)) return 'up to date';
  const { command, version } = findPython();
  const [program, ...args] = command;
  await runTool('Making the virtual environment', program, [...args, '-m', 'venv', '--clear', paths.venv], {
    log: path.join(paths.logs, 'venv.log'),
  });
  writeStamp(stampOf('venv'), version.join('.'));
  return `Python ${version.join('.')}`;
}

/** @returns {Promise<string>} a word for the step's line */
export async function installUv() {
  const hash = contentHash([requirementsOf('uv')]);
  if (isStamped(stampOf('uv'), hash) && existsSync(paths.uv)) return 'up to date';
  const args = [
    '-m',
    'pip',
    'install',
    '--no-input',
    '--disable-pip-version-check',
    '--require-hashes',
    '-r',
    requirementsOf('uv'),
  ];
  await runTool('Installing uv', paths.python, args, { log: path.join(paths.logs, 'uv.log') });
  writeStamp(stampOf('uv'), hash);
  return 'installed';
}

/**
 * Installs one set of requirements; `test` and `train` hold everything of `serve`.
 * @param {RequirementSet} set
 * @param {TorchBuild | undefined} torch undefined keeps the build that is installed
 * @returns {Promise<string>} a word for the step's line
 */
export async function installRequirements(set, torch) {
  const build = torch ?? installedBuild();
  const hash = contentHash([requirementsOf(set)], [build]);
  if (isStamped(stampOf(set), hash)) return 'up to date';
  if (!existsSync(stampOf('torch'))) requireDisk(NEEDED_GB[build]);
  if (build === 'cpu') await installCpuTorch(set);
  else await uvInstall(`${set}.log`, ['--require-hashes', '-r', requirementsOf(set)]);
  writeStamp(stampOf('torch'), build);
  writeStamp(stampOf(set), hash);
  writeStamp(stampOf('serve'), contentHash([requirementsOf('serve')], [build]));
  return 'installed';
}

/** @returns {TorchBuild} */
function installedBuild() {
  return existsSync(stampOf('torch')) && readFileSync(stampOf('torch'), 'utf8').trim() === 'cpu'
    ? 'cpu'
    : 'default';
}

/**
 * The CPU build comes from PyTorch's own index with other hashes than the ones we pin, so it alone goes without them.
 * @param {RequirementSet} set
 */
async function installCpuTorch(set) {
  const { torch, others } = splitTorch(readFileSync(requirementsOf(set), 'utf8'));
  const filtered = path.join(paths.shared, `${set}-without-torch.txt`);
  mkdirSync(paths.shared, { recursive: true });
  writeFileSync(filtered, others);
  await uvInstall('torch-cpu.log', ['--torch-backend', 'cpu', torch]);
  await uvInstall(`${set}.log`, ['--require-hashes', '--no-deps', '-r', filtered]);
}

/**
 * @param {string} log
 * @param {string[]} args
 */
function uvInstall(log, args) {
  return runTool(
    'Installing the Python packages',
    paths.uv,
    ['pip', 'install', '--python', paths.python, ...args],
    {
      log: path.join(paths.logs, log),
    },
  );
}

/** @param {number} neededGb */
function requireDisk(neededGb) {
  mkdirSync(paths.shared, { recursive: true });
  const { bavail, bsize } = statfsSync(paths.shared);
  const freeGb = (bavail * bsize) / 1e9;
  if (freeGb >= neededGb) return;
  throw new Failure(
    `The disk has ${freeGb.toFixed(1)} GB free and PyTorch needs about ${neededGb} GB: free some space${neededGb > 2 ? ', or use the small CPU build with --torch cpu' : ''}, and run the command again.`,
  );
}
