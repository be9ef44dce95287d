// `npm run sdk`: writes the generated part of the TypeScript SDK from openapi.yaml.
// @ts-check

import { Failure, printFailure } from './lib/failure.mjs';
import { parseOptions } from './lib/options.mjs';
import { generateSdk } from './lib/sdk.mjs';
import { setUp } from './lib/set-up.mjs';

async function main() {
  const { rest } = parseOptions(process.argv.slice(2), {});
  if (rest.length > 0) throw new Failure('npm run sdk takes no arguments.');
  await setUp({ python: 'none', model: false });
  await generateSdk();
  process.stdout.write('sdk/typescript/src/generated written.\n');
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
