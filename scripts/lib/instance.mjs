// The claim on a home: one instance at a time, and what a killed one left behind is ended first.
// @ts-check

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Failure } from './failure.mjs';
import { paths, shown } from './paths.mjs';
import { signalGroup } from './services.mjs';

const ORPHAN_LIMIT_MS = 5_000;

/**
 * @typedef {{ pid: number, port?: number, backendPort?: number, backendPid?: number, edgePid?: number }} Run
 */

/**
 * Claims the home for this process, or says who has it.
 * @param {import('./paths.mjs').Home} home
 */
export async function claim(home) {
  mkdirSync(home.directory, { recursive: true });
  const earlier = readRun(home.run);
  if (earlier && isAlive(earlier.pid)) {
    const where = earlier.port ? ` at http://127.0.0.1:${earlier.port}` : '';
    throw new Failure(
      `Attune already runs from ${shown(home.directory)}${where} (process ${earlier.pid}): use that one, end it with Ctrl-C, or start a second one with --home DIR, --port and --backend-port.`,
    );
  }
  if (earlier) {
    await endOrphans([earlier.backendPid, earlier.edgePid]);
    rmSync(home.run);
  }
  try {
    // wx: of two starts at the same moment one fails here.
    writeFileSync(home.run, JSON.stringify({ pid: process.pid }), { flag: 'wx' });
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    throw new Failure(`Another start from ${shown(home.directory)} began at the same moment: use that one.`);
  }
}

/**
 * @param {import('./paths.mjs').Home} home
 * @param {Omit<Run, 'pid'>} details
 */
export function recordRun(home, details) {
  writeFileSync(home.run, `${JSON.stringify({ pid: process.pid, ...details }, null, 2)}\n`);
}

/** @param {import('./paths.mjs').Home} home */
export function release(home) {
  if (readRun(home.run)?.pid === process.pid) rmSync(home.run, { force: true });
}

/** The homes under `.attune/` (and that folder itself) from which an instance runs. */
export function runningHomes() {
  if (!existsSync(paths.shared)) return [];
  const folders = readdirSync(paths.shared, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [paths.shared, ...folders.map((entry) => path.join(paths.shared, entry.name))].filter(
    (directory) => {
      const run = readRun(path.join(directory, 'run.json'));
      return run !== undefined && isAlive(run.pid);
    },
  );
}

/**
 * @param {string} file
 * @returns {Run | undefined}
 */
function readRun(file) {
  if (!existsSync(file)) return undefined;
  try {
    const run = JSON.parse(readFileSync(file, 'utf8'));
    return Number.isInteger(run.pid) ? run : undefined;
  } catch {
    // Cut off by a full disk or a power loss: it claims nothing.
    rmSync(file);
    return undefined;
  }
}

/**
 * Ends what a killed start left behind, and waits until its ports are free again.
 * @param {Array<number | undefined>} pids
 */
async function endOrphans(pids) {
  const orphans = pids.filter((pid) => pid !== undefined && isOurs(pid)).map(Number);
  for (const pid of orphans) signalGroup(pid, 'SIGKILL');
  for (let waitedMs = 0; orphans.some(isAlive) && waitedMs < ORPHAN_LIMIT_MS; waitedMs += 50) await delay(50);
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

/**
 * Numbers are used again: only a process whose command line is one of ours may be ended.
 * @param {number} pid
 */
function isOurs(pid) {
  try {
    const command = execFileSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' });
    return command.includes('gpu_backend') || command.includes('wrangler');
  } catch {
    return false;
  }
}
