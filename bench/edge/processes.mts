// The processes that `bench edge` measures: the upstream, Workers in workerd, and Portkey's gateway. Each ends with the bench.
import { fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, openSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createApiKey, seedSql } from '../../scripts/lib/dev-key.mjs';
import { paths, root } from '../../scripts/lib/paths.mjs';
import { freePort } from '../../scripts/lib/ports.mjs';
import { waitUntilReady } from '../../scripts/lib/ready.mjs';
import { WORKERD_ENV } from '../../scripts/lib/workerd.mjs';
import { childOf } from './process-use.mts';
import { BACKEND_SECRET, KEY_PEPPER } from './settings.mts';
import type { WorkerAnswer, WorkerOrder } from './worker-process.mts';

const PORTKEY = path.join(root, 'bench/rivals/node_modules/@portkey-ai/gateway/build/start-server.js');
const READY_LIMIT_MS = 30_000;

const BARE_PROXY = `export default {
  fetch: (request, env) => fetch(env.UPSTREAM, { method: request.method, headers: request.headers, body: request.body }),
};`;
const EMPTY = `import { DurableObject } from 'cloudflare:workers';
export class LedgerObject extends DurableObject {}
export class ProjectLedgerObject extends DurableObject {}
export class RunObject extends DurableObject {}
export default { fetch: () => new Response() };`;

const running: ChildProcess[] = [];

mkdirSync(paths.logs, { recursive: true });
const log = openSync(path.join(paths.logs, 'bench-edge.log'), 'w');

function start(file: string): ChildProcess {
  const env = { ...WORKERD_ENV, ...process.env };
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), {
    env,
    stdio: ['ignore', log, log, 'ipc'],
  });
  running.push(child);
  return child;
}

/** What a process says next. */
function hear<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const onExit = () =>
      reject(new Error('A process of the bench ended too early: .attune/logs/bench-edge.log'));
    child.once('exit', onExit);
    child.once('message', (said) => {
      child.off('exit', onExit);
      resolve(said as T);
    });
  });
}

export async function endAll(): Promise<void> {
  await Promise.all(running.splice(0).map(end));
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  if (child.connected) child.disconnect();
  else child.kill();
  await exited;
}

export type MockBackend = Awaited<ReturnType<typeof startMockBackend>>;

export async function startMockBackend() {
  const child = start('mock-backend.mts');
  const url = await hear<string>(child);
  const ask = async (question: string) => {
    child.send(question);
    return hear<number>(child);
  };
  return { url, ask };
}

async function startWorker(order: WorkerOrder) {
  const child = start('worker-process.mts');
  child.send(order);
  const answer = await hear<WorkerAnswer>(child);
  return { ...answer, pid: childOf(child.pid ?? 0), end: () => end(child) };
}

export type Edge = Awaited<ReturnType<typeof startEdge>>;

/** The edge as it is deployed, with a key that has no limit in its way and a budget to account for. */
export async function startEdge(script: string, backendUrl: string) {
  const key = createApiKey({ pepper: KEY_PEPPER });
  const limits = {
    requests_per_minute: 10_000_000,
    tokens_per_minute: 1_000_000_000,
    concurrency: 10_000,
    budget_micros: 1_000_000_000_000,
    budget_window: 'month',
    is_budget_hard: 1,
  };
  const worker = await startWorker({
    script,
    variables: { BACKEND_URL: backendUrl, BACKEND_SECRET, KEY_PEPPER },
    isOurs: true,
    seed: seedSql({ key, limits }).trim().split('\n'),
  });
  const headers = { authorization: `Bearer ${key.key}`, 'content-type': 'application/json' };
  return { ...worker, chatUrl: `${worker.url}/v1/chat/completions`, headers };
}

export function startBareProxy(backendUrl: string) {
  const variables = { UPSTREAM: `${backendUrl}/v1/chat/completions` };
  return startWorker({ script: BARE_PROXY, variables, isOurs: false, seed: [] });
}

/** A Worker that does nothing in the place of ours, with the same bindings, to know what everything around it takes to start. */
export const startEmpty = () => startWorker({ script: EMPTY, variables: {}, isOurs: true, seed: [] });

/** A Worker of the bench's own that has the ledger's Durable Objects. */
export const startLedger = (script: string) => startWorker({ script, variables: {}, isOurs: true, seed: [] });

/** Undefined where npm has not installed it. */
export async function startPortkey(backendUrl: string) {
  if (!existsSync(PORTKEY)) return undefined;
  const port = await freePort();
  const child = spawn(process.execPath, [PORTKEY, `--port=${port}`, '--headless'], {
    stdio: ['ignore', log, log],
  });
  running.push(child);
  const url = `http://127.0.0.1:${port}`;
  await waitUntilReady(url, { limitMs: READY_LIMIT_MS, isHopeless: () => child.exitCode !== null });
  return {
    pid: child.pid ?? 0,
    chatUrl: `${url}/v1/chat/completions`,
    headers: {
      'content-type': 'application/json',
      authorization: 'Bearer nobody checks it',
      'x-portkey-provider': 'openai',
      'x-portkey-custom-host': `${backendUrl}/v1`,
    },
  };
}
