// `npm run train -- NAME …`: runs a training recipe, with its own set-up.
// @ts-check

import { Failure, printFailure } from './lib/failure.mjs';
import { runPythonModule } from './lib/python-module.mjs';

async function main() {
  const args = process.argv.slice(2);
  if (args.length === 0)
    throw new Failure(
      'Say what: npm run train -- reward_debug --data DIR --out DIR (--help tells the options).',
    );
  await runPythonModule('gpu_backend.recipes', args);
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
