// Finds a Python that the backend runs on, and says what to install when there is none.
// @ts-check

import { spawnSync } from 'node:child_process';
import { Failure } from './failure.mjs';

const OLDEST = [3, 11];
const CANDIDATES = [['python3.13'], ['python3.12'], ['python3.11'], ['python3'], ['python'], ['py', '-3']];

/** What a candidate says about itself: its version, and whether it can make virtual environments. */
const PROBE = `
import sys
print("%d.%d.%d" % sys.version_info[:3])
try:
    import ensurepip, venv
    print("venv")
except ImportError:
    print("no venv")
`;

/** @typedef {{ command: string[], version: number[], hasVenv: boolean }} Python */

/**
 * Reads the probe's output; undefined when it is not what a Python prints (a shim's error, a shop page).
 * @param {string} output
 */
export function readProbe(output) {
  const match = /^(\d+)\.(\d+)\.(\d+)\s+(venv|no venv)\s*$/.exec(output);
  if (!match) return undefined;
  return { version: match.slice(1, 4).map(Number), hasVenv: match[4] === 'venv' };
}

/** @param {number[]} version */
export function isNewEnough([major, minor]) {
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}

/**
 * The first candidate that will do. `ATTUNE_PYTHON`, when set, is the only one.
 * @param {{ named?: string, probe?: (command: string[]) => string }} [options]
 * @returns {Python}
 */
export function findPython({ named = process.env.ATTUNE_PYTHON, probe = runProbe } = {}) {
  const candidates = named ? [[named]] : CANDIDATES;
  /** @type {Python[]} */
  const found = [];
  for (const command of candidates) {
    const answer = readProbe(probe(command));
    if (!answer) continue;
    const python = { command, ...answer };
    if (isNewEnough(python.version) && python.hasVenv) return python;
    found.push(python);
  }
  throw new Failure(whyNone(found, named));
}

/** @param {string[]} command */
function runProbe([command, ...args]) {
  const result = spawnSync(command, [...args, '-c', PROBE], { encoding: 'utf8', timeout: 20_000 });
  return result.status === 0 ? result.stdout : '';
}

/**
 * @param {Python[]} found
 * @param {string | undefined} named
 */
function whyNone(found, named) {
  const oldest = OLDEST.join('.');
  const withoutVenv = found.find((python) => isNewEnough(python.version));
  if (withoutVenv) {
    const [major, minor] = withoutVenv.version;
    return `Python ${major}.${minor} has no venv module: install it (Debian and Ubuntu: apt install python${major}.${minor}-venv or python3-venv) and run the command again.`;
  }
  const newest = found.map((python) => python.version).sort((a, b) => b[0] - a[0] || b[1] - a[1])[0];
  if (newest) {
    const which = named
      ? `ATTUNE_PYTHON is Python ${newest.join('.')}`
      : `The newest Python here is ${newest.join('.')}`;
    return `${which}, and the backend needs ${oldest} or newer: install one (python.org, pyenv, apt, brew) or name it in ATTUNE_PYTHON.`;
  }
  if (named)
    return `ATTUNE_PYTHON names "${named}", which does not run as a Python: set it to the path of Python ${oldest} or newer.`;
  return `There is no Python on the PATH: install Python ${oldest} or newer (python.org, pyenv, apt, brew) or name it in ATTUNE_PYTHON.`;
}
