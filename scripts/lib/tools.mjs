// Runs a tool to its end with its output in a log, and turns its failure into one sentence.
// @ts-check

import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, explain, lastLines } from './failure.mjs';
import { root, shown } from './paths.mjs';

/** Tools that run now, so that an interrupted set-up leaves none behind. @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();

/**
 * @param {string} what the tool's job, as in "Installing the Node packages"
 * @param {string} command
 * @param {string[]} args
 * @param {object} options
 * @param {string} options.log
 * @param {Record<string, string | undefined>} [options.env]
 * @param {boolean} [options.isVerdict] true when the tool judges our code: its words are shown at length and not read for causes
 * @returns {Promise<string>} everything the tool printed
 */
export async function runTool(what, command, args, { log, env = process.env, isVerdict = false }) {
  mkdirSync(path.dirname(log), { recursive: true });
  const file = openSync(log, 'w');
  const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', file, file] });
  running.add(child);
  /** @type {{ code: number | null, error?: Error }} */
  const { code, error } = await new Promise((resolve) => {
    child.on('error', (spawnError) => resolve({ code: null, error: spawnError }));
    child.on('exit', (exitCode) => resolve({ code: exitCode }));
  }).finally(() => {
    closeSync(file);
    running.delete(child);
  });
  const output = readFileSync(log, 'utf8');
  if (code === 0) return output;
  const said = error ? `${error.message}\n${output}` : output;
  const cause = isVerdict ? `${what} failed:` : (explain(said) ?? `${what} failed; its last lines say why.`);
  throw new Failure(cause, {
    lastLines: lastLines(said, isVerdict ? 60 : 12),
    log: shown(log),
  });
}

/** Ends whatever tool is running, within a bounded time. */
export async function endTools() {
  await Promise.all(
    [...running].map(async (child) => {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      const insist = setTimeout(() => child.kill('SIGKILL'), 3_000);
      await gone;
      clearTimeout(insist);
    }),
  );
}
