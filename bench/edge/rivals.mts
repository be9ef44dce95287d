// Installs bench/rivals when its lock file is not the one that was installed from, without install scripts; other benches share the stamp.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { paths, root } from '../../scripts/lib/paths.mjs';
import { runTool } from '../../scripts/lib/tools.mjs';

const folder = path.join(root, 'bench', 'rivals');
const stamp = path.join(folder, 'node_modules', '.attune-lock');

export const requireRival = createRequire(path.join(folder, 'package.json'));

export async function installRivals(): Promise<void> {
  const wanted = createHash('sha256')
    .update(readFileSync(path.join(folder, 'package-lock.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', folder];
  await runTool('Installing bench/rivals', npm, args, { log: path.join(paths.logs, 'rivals.log') });
  writeFileSync(stamp, wanted);
}
