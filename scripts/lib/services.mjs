// Starts and ends long-running processes: each in a process group of its own, output in its log, never left behind.
// @ts-check

import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { lastLines } from './failure.mjs';
import { root } from './paths.mjs';

/** How long a service may take to end by itself: longer than the backend's own drain. */
const GRACE_MS = 10_000;

/**
 * @typedef {{ name: string, pid: number, log: string, exited: Promise<Exit>, hasExited: () => boolean, lastLines: (count: number) => string[], end: (graceMs?: number) => Promise<void> }} Service
 * @typedef {{ service: string, code: number | null, signal: string | null }} Exit
 */

/**
 * @param {object} options
 * @param {string} options.name
 * @param {string} options.command
 * @param {string[]} options.args
 * @param {Record<string, string | undefined>} options.env
 * @param {string} options.log
 * @returns {Service}
 */
export function startService({ name, command, args, env, log }) {
  mkdirSync(path.dirname(log), { recursive: true });
  const file = openSync(log, 'w');
  // A group of its own keeps the terminal's Ctrl-C away, so that ending in order is up to us; and it lets us end grandchildren.
  const child = spawn(command, args, { cwd: root, env, detached: true, stdio: ['ignore', file, file] });
  closeSync(file);
  let gone = false;
  /** @type {Promise<Exit>} */
  const exited = new Promise((resolve) => {
    child.once('error', () => resolve({ service: name, code: 127, signal: null }));
    child.once('exit', (code, signal) => resolve({ service: name, code, signal }));
  });
  void exited.then(() => (gone = true));
  const pid = child.pid ?? 0;
  return {
    name,
    pid,
    log,
    exited,
    hasExited: () => gone,
    lastLines: (count) => (existsSync(log) ? lastLines(readFileSync(log, 'utf8'), count) : []),
    end: (graceMs = GRACE_MS) => endGroup(pid, exited, graceMs),
  };
}

/**
 * Asks the group to end, waits a bounded time, then insists.
 * @param {number} pid
 * @param {Promise<unknown>} exited
 * @param {number} graceMs
 */
async function endGroup(pid, exited, graceMs) {
  if (pid === 0) return;
  signalGroup(pid, 'SIGTERM');
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, graceMs, 'late')));
  await Promise.race([exited, late]);
  clearTimeout(timer);
  // Also after a clean exit: a grandchild that outlived its parent is still in the group.
  signalGroup(pid, 'SIGKILL');
  await exited;
}

/**
 * @param {number} pid
 * @param {NodeJS.Signals} signal
 */
export function signalGroup(pid, signal) {
  try {
    process.kill(process.platform === 'win32' ? pid : -pid, signal);
  } catch (error) {
    // Nobody left in the group is what we wanted; macOS says EPERM when only dead ones are left.
    if (!['ESRCH', 'EPERM'].includes(/** @type {NodeJS.ErrnoException} */ (error).code ?? '')) throw error;
  }
}
