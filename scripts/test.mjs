// `npm test`: its own set-up, then every suite (or the named ones) one after the other, and a summary.
// @ts-check

import { spawn } from 'node:child_process';
import { Failure, printFailure } from './lib/failure.mjs';
import { parseOptions } from './lib/options.mjs';
import { root } from './lib/paths.mjs';
import { installPackages } from './lib/node-packages.mjs';
import { setUp } from './lib/set-up.mjs';
import { seconds, step } from './lib/steps.mjs';
import { chooseSuites } from './lib/suites.mjs';
import { installProgram } from './lib/tool-venv.mjs';

/**
 * Runs one suite with its output shown as it comes.
 * @param {import('./lib/suites.mjs').Call} call
 * @returns {Promise<boolean>} whether it passed
 */
function run({ command, args, env }) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('error', reject);
    child.on('exit', (code) => resolve(code === 0));
  });
}

async function main() {
  const began = performance.now();
  const { rest } = parseOptions(process.argv.slice(2), {});
  const chosen = chooseSuites(rest);
  await setUp({
    python: chosen.some(({ python }) => python === 'test') ? 'test' : 'none',
    model: chosen.some(({ model }) => model),
  });
  for (const { name, packages, program } of chosen) {
    if (packages !== undefined) await step(`Node packages (${name})`, () => installPackages(packages));
    if (program !== undefined) await step(`Python packages (${name})`, () => installProgram(program));
  }
  const results = [];
  for (const suite of chosen) {
    process.stdout.write(`\n── ${suite.name} ──\n`);
    const suiteBegan = performance.now();
    results.push({
      name: suite.name,
      passed: await run(suite.call()),
      duration: performance.now() - suiteBegan,
    });
  }
  process.stdout.write('\n');
  for (const { name, passed, duration } of results)
    process.stdout.write(`${passed ? '✓' : '✗'} ${name.padEnd(10)} ${seconds(duration)}\n`);
  process.stdout.write(`  with set-up ${seconds(performance.now() - began)}\n`);
  const failed = results.filter(({ passed }) => !passed).map(({ name }) => name);
  if (failed.length > 0) throw new Failure(`Failed: ${failed.join(', ')}.`);
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
