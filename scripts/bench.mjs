// `npm run bench -- NAME [--json]`: its own set-up, then `bench/NAME.mjs` or `bench/NAME.py` with the arguments that follow.
// @ts-check

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { backendEnv } from './lib/backend.mjs';
import { Failure, printFailure } from './lib/failure.mjs';
import { paths, root } from './lib/paths.mjs';
import { setUp } from './lib/set-up.mjs';

const folder = path.join(root, 'bench');

async function main() {
  const [name, ...args] = process.argv.slice(2);
  const files = readdirSync(folder).filter(
    (file) => /^[a-z0-9-]+\.(?:mjs|py)$/.test(file) && file !== 'report.mjs',
  );
  const file = files.find((candidate) => path.parse(candidate).name === name);
  if (!file)
    throw new Failure(
      `Name a bench: npm run bench -- ${files.map((candidate) => path.parse(candidate).name).join(' | ')} [--json].`,
    );
  await setUp({ python: 'test', model: true });
  const command = file.endsWith('.py') ? paths.python : process.execPath;
  const child = spawn(command, [path.join(folder, file), ...args], {
    cwd: root,
    env: backendEnv({ ATTUNE_MODELS_DIR: paths.models }),
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  });
  if (code !== 0) throw new Failure(`The bench ${name} failed.`);
}

main().catch((error) => {
  printFailure(error);
  process.exit(1);
});
