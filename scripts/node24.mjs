// Runs a tool of node_modules/.bin under a Node that is new enough: `node scripts/node24.mjs wrangler dev`.
import { spawn } from 'node:child_process';
import { delimiter, dirname } from 'node:path';
import { findNode24, findTool } from './lib/node24.mjs';

const [tool, ...rest] = process.argv.slice(2);
if (tool === undefined) {
  console.error('usage: node scripts/node24.mjs TOOL [ARGUMENTS]');
  process.exit(2);
}

let node;
let script;
try {
  node = findNode24();
  script = findTool(tool);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}

// Tools start helpers of their own by the name `node`, so the same binary comes first in PATH.
const child = spawn(node, [script, ...rest], {
  stdio: 'inherit',
  env: {
    WRANGLER_SEND_METRICS: 'false',
    ...process.env,
    PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ''}`,
  },
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(code ?? (signal === null ? 1 : 130)));
