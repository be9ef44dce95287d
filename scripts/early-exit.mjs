// `npm run early-exit -- analyse …`: how early a model's layers know its next token, with its own set-up.
// @ts-check

import { Failure, printFailure } from './lib/failure.mjs';
import { runPythonModule } from './lib/python-module.mjs';

async function main() {
  const args = process.argv.slice(2);
  if (args.length === 0)
    throw new Failure('Say what: npm run early-exit -- analyse --data DIR (--help tells the options).');
  await runPythonModule('gpu_backend.evals.early_exit', args);
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
