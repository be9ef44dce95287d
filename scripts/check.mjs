// `npm run check`: format, lint, types, spec and imports of both languages, two checks at a time.
// @ts-check

import { checks } from './lib/checks.mjs';
import { Failure, printFailure } from './lib/failure.mjs';
import { parseOptions } from './lib/options.mjs';
import { inPool } from './lib/pool.mjs';
import { setUp } from './lib/set-up.mjs';
import { seconds } from './lib/steps.mjs';

/**
 * @param {import('./lib/checks.mjs').Check} check
 * @returns {Promise<unknown>} why it failed, or undefined
 */
async function runCheck(check) {
  const began = performance.now();
  const failure = await check.run().then(
    () => undefined,
    (error) => error,
  );
  process.stdout.write(
    `${failure ? '✗' : '✓'} ${check.name.padEnd(58)} ${seconds(performance.now() - began)}\n`,
  );
  return failure;
}

async function main() {
  parseOptions(process.argv.slice(2), {});
  await setUp({ python: 'test', model: false });
  const began = performance.now();
  const failures = (await inPool(checks, 2, runCheck)).filter((failure) => failure !== undefined);
  process.stdout.write(`  ${checks.length} checks in ${seconds(performance.now() - began)}\n`);
  for (const failure of failures) printFailure(failure);
  if (failures.length > 0) throw new Failure(`${failures.length} of ${checks.length} checks failed.`);
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
