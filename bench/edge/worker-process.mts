// A Worker in workerd, in a process of its own: started by what its parent sends, gone with its parent.
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import type * as MiniflareModule from 'miniflare';
import { unstable_getMiniflareWorkerOptions } from 'wrangler';
import { paths, root } from '../../scripts/lib/paths.mjs';

// The one that wrangler brings.
const require = createRequire(createRequire(import.meta.url).resolve('wrangler'));
const { convertV4MiniflareOptions, Miniflare } = require('miniflare') as typeof MiniflareModule;

export interface WorkerOrder {
  /** The module, bundled. */
  script: string;
  variables: Record<string, string>;
  /** With the bindings of wrangler.toml and its migrations; else with none. */
  isOurs: boolean;
  /** SQL to begin with. */
  seed: string[];
}

export interface WorkerAnswer {
  url: string;
  /** Milliseconds until it could be called, the database aside. */
  startedInMs: number;
}

async function start({ script, variables, isOurs, seed }: WorkerOrder): Promise<WorkerAnswer> {
  const { workerOptions } = unstable_getMiniflareWorkerOptions(path.join(root, 'wrangler.toml'));
  const {
    compatibilityDate,
    compatibilityFlags,
    d1Databases,
    durableObjects,
    kvNamespaces,
    r2Buckets,
    bindings,
  } = workerOptions;
  const began = performance.now();
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      host: '127.0.0.1',
      port: 0,
      // It asks nobody for the place that requests come from.
      cf: false,
      modules: [{ type: 'ESModule', path: 'index.mjs', contents: script }],
      compatibilityDate: compatibilityDate ?? '',
      compatibilityFlags: compatibilityFlags ?? [],
      ...(isOurs ? { d1Databases, durableObjects, kvNamespaces, r2Buckets } : {}),
      bindings: Object.assign({}, isOurs ? bindings : {}, variables),
    } as Parameters<typeof convertV4MiniflareOptions>[0]),
  );
  const url = (await miniflare.ready).origin;
  const startedInMs = performance.now() - began;
  if (isOurs) await fill(miniflare, seed);
  process.on('disconnect', () => {
    void miniflare.dispose().finally(() => process.exit());
  });
  return { url, startedInMs };
}

async function fill(miniflare: InstanceType<typeof Miniflare>, seed: string[]): Promise<void> {
  const database = await miniflare.getD1Database('DB');
  const files = readdirSync(paths.migrations)
    .filter((name) => name.endsWith('.sql'))
    .toSorted();
  const migrations = files.flatMap((name) =>
    readFileSync(path.join(paths.migrations, name), 'utf8').split('--> statement-breakpoint'),
  );
  for (const statement of [...migrations, ...seed]) await database.prepare(statement).run();
}

process.once('message', (order: WorkerOrder) => {
  void start(order).then((answer) => process.send?.(answer));
});
