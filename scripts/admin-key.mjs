// `npm run admin-key -- --name NAME`: makes an admin key of the root project, which is the only way to the first one.
// @ts-check

import { rmSync } from 'node:fs';
import path from 'node:path';
import { createAdminKey } from './lib/admin-key.mjs';
import { d1, migrate } from './lib/database.mjs';
import { Failure, printFailure } from './lib/failure.mjs';
import { helpText, parseOptions } from './lib/options.mjs';
import { homeOf, shown } from './lib/paths.mjs';
import { loadSecrets, writePrivate } from './lib/secrets.mjs';

const MAX_NAME_LENGTH = 128;
const MIN_PEPPER_LENGTH = 32;

/** @type {Record<string, import('./lib/options.mjs').Option>} */
const declared = {
  '--name': { kind: 'text', help: 'what the key is for, as it is listed' },
  '--home': { kind: 'text', default: '.attune', help: 'folder of the instance whose database gets the key' },
  '--remote': {
    kind: 'flag',
    help: 'for a deployed database: takes its KEY_PEPPER from the environment, writes the SQL and says how to run it',
  },
  '--help': { kind: 'flag', help: 'this text' },
};

async function main() {
  const { values, rest } = parseOptions(process.argv.slice(2), declared);
  if (values['--help']) {
    process.stdout.write(`${helpText('npm run admin-key -- --name NAME', declared)}\n`);
    return;
  }
  const name = values['--name'];
  if (rest.length > 0 || !name || name.length > MAX_NAME_LENGTH)
    throw new Failure(
      `Say what the key is for, in at most ${MAX_NAME_LENGTH} characters: npm run admin-key -- --name "Operations".`,
    );
  const home = homeOf(values['--home']);
  const pepper = values['--remote'] ? process.env['KEY_PEPPER'] : loadSecrets(home).keyPepper;
  if (!pepper || pepper.length < MIN_PEPPER_LENGTH)
    throw new Failure(
      `Set KEY_PEPPER to the secret of the deployment, which has at least ${MIN_PEPPER_LENGTH} characters.`,
    );
  const { id, key, sql } = createAdminKey({ pepper, name });
  const file = path.join(home.directory, 'admin-key.sql');
  if (!values['--remote']) await migrate(home);
  writePrivate(file, sql);
  if (values['--remote']) {
    process.stdout.write(
      `Run this and then delete the file:\n  node scripts/node24.mjs wrangler d1 execute DB --remote --env production --file ${shown(file)}\n`,
    );
  } else {
    await d1('Making the admin key', ['execute', 'DB', '--file', file], 'admin-key.log', home);
    rmSync(file);
  }
  process.stdout.write(`${id} is shown this once:\n${key}\n`);
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
