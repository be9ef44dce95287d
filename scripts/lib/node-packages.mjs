// Installs the Node packages when package-lock.json is not the one they were installed from.
// @ts-check

import path from 'node:path';
import { Failure } from './failure.mjs';
import { paths, root } from './paths.mjs';
import { contentHash, isStamped, writeStamp } from './stamps.mjs';
import { runTool } from './tools.mjs';

const OLDEST_NODE = 20;

/** @param {string} version as in process.versions.node */
export function requireNode(version) {
  if (Number(version.split('.')[0]) >= OLDEST_NODE) return;
  throw new Failure(
    `Node ${version} is too old: install Node ${OLDEST_NODE} or newer (nodejs.org, nvm, apt, brew) and run the command again.`,
  );
}

/**
 * @param {string} [folder] where the manifest and its lock lie
 * @returns {Promise<string>} a word for the step's line
 */
export async function installPackages(folder = root) {
  // The stamp lies inside node_modules, so that deleting the folder also forgets that it was installed.
  const stamp = path.join(folder, 'node_modules', '.attune-lock');
  const hash = contentHash([path.join(folder, 'package-lock.json')], [process.platform, process.arch]);
  if (isStamped(stamp, hash)) return 'up to date';
  const [command, args] = npm();
  await runTool(
    'Installing the Node packages',
    command,
    [...args, 'ci', '--no-audit', '--no-fund', '--prefix', folder],
    { log: path.join(paths.logs, 'npm.log') },
  );
  writeStamp(stamp, hash);
  return 'installed';
}

/**
 * The npm that runs this script, else the one on the PATH.
 * @returns {[string, string[]]}
 */
function npm() {
  const script = process.env.npm_execpath;
  if (script && /npm-cli\.c?js$/.test(script)) return [process.execPath, [script]];
  return [process.platform === 'win32' ? 'npm.cmd' : 'npm', []];
}
