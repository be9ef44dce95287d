// How every bench in JavaScript reports: a table for people, and with --json one object on the last line.
// @ts-check

import { execFileSync } from 'node:child_process';
import os from 'node:os';

/**
 * @param {object} result
 * @param {string} result.name
 * @param {Record<string, unknown>} result.settings
 * @param {Array<Record<string, string | number>>} result.rows raw measurements
 * @param {Record<string, number>} result.ratios the figures that are promised
 */
export function report({ name, settings, rows, ratios }) {
  console.table(rows);
  console.table(ratios);
  if (!process.argv.includes('--json')) return;
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  const machine = `${os.cpus()[0].model}, ${os.cpus().length} cores, ${Math.round(os.totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}`;
  console.log(JSON.stringify({ name, commit, machine, settings, rows, ratios }));
}

/** @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * @param {number} value
 * @param {number} digits
 */
export const rounded = (value, digits) => Number(value.toFixed(digits));
