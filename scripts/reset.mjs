// `npm run reset`: removes everything under `.attune/` (environment, model, databases, secrets), but never under a running instance.
// @ts-check

import { existsSync, rmSync } from 'node:fs';
import { Failure, printFailure } from './lib/failure.mjs';
import { runningHomes } from './lib/instance.mjs';
import { parseOptions } from './lib/options.mjs';
import { paths, shown } from './lib/paths.mjs';
import { step } from './lib/steps.mjs';

async function main() {
  const { rest } = parseOptions(process.argv.slice(2), {});
  if (rest.length > 0) throw new Failure('npm run reset takes no arguments.');
  const running = runningHomes();
  if (running.length > 0)
    throw new Failure(
      `Attune runs from ${running.map(shown).join(' and ')}: end it with Ctrl-C before a reset.`,
    );
  await step(`Removing ${shown(paths.shared)}/`, () => {
    if (!existsSync(paths.shared)) return 'nothing there';
    rmSync(paths.shared, { recursive: true, force: true });
    return 'removed';
  });
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
