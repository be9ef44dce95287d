// `npm run eval -- reward …`: measures a model on held-out data, with its own set-up.
// @ts-check

import { Failure, printFailure } from './lib/failure.mjs';
import { runPythonModule } from './lib/python-module.mjs';

async function main() {
  const args = process.argv.slice(2);
  if (args.length === 0)
    throw new Failure('Say what: npm run eval -- reward --data DIR (--help tells the options).');
  await runPythonModule('gpu_backend.evals', args);
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
