// The Worker as `wrangler deploy` would send it: its text, its size, and how long it takes to start.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { homeOf, paths } from '../../scripts/lib/paths.mjs';
import { runTool } from '../../scripts/lib/tools.mjs';
import { wrangler } from '../../scripts/lib/wrangler.mjs';
import { median } from '../report.mjs';
import { startEdge, startEmpty } from './processes.mts';

const STARTS = 5;

export async function bundle(): Promise<string> {
  const out = path.join(paths.shared, 'bench', 'edge-bundle');
  const call = wrangler(['deploy', '--dry-run', '--outdir', out], homeOf('.attune'));
  const log = path.join(paths.logs, 'bench-bundle.log');
  await runTool('Bundling the Worker', call.command, call.args, { env: call.env, log });
  return readFileSync(path.join(out, 'index.js'), 'utf8');
}

export const gzipKib = (script: string) => gzipSync(script).length / 1024;

/** Against a Worker that does nothing, so that the runtime's own start is not counted: reading, compiling and the first run of the module. */
export async function measureStart(script: string, backendUrl: string) {
  const ours: number[] = [];
  const empty: number[] = [];
  for (let i = 0; i < STARTS; i++) {
    const edge = await startEdge(script, backendUrl);
    ours.push(edge.startedInMs);
    await edge.end();
    const nothing = await startEmpty();
    empty.push(nothing.startedInMs);
    await nothing.end();
  }
  return { ours, empty, addedMs: median(ours) - median(empty) };
}
