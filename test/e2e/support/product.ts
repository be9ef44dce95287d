// Starts the real product as a user does, on free ports and in a home of its own, and ends it again.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { paths, root } from '../../../scripts/lib/paths.mjs';
import { freePort } from '../../../scripts/lib/ports.mjs';

const START_LIMIT_MS = 120_000;

export interface Product {
  baseUrl: string;
  apiKey: string;
  home: string;
  port: number;
  backendPort: number;
  pid: number;
  /** Everything that was printed until now. */
  output: () => string;
  /** The exit code, once the start has ended. */
  exited: Promise<number | null>;
  /** Sends the signal of Ctrl-C and waits for the end. */
  stop: () => Promise<number | null>;
}

export interface ProductOptions {
  backend?: { url: string; secret: string };
  port?: number;
  backendPort?: number;
  home?: string;
  /** Models of other servers: `ATTUNE_UPSTREAMS`. */
  upstreams?: string;
}

/** A new folder for one instance, under the folder that git ignores. */
export function newHome(): string {
  return mkdtempSync(path.join(paths.shared, 'e2e-'));
}

/** Runs `npm start`'s script without waiting for anything. */
export async function launch(options: ProductOptions = {}) {
  const port = options.port ?? (await freePort());
  const backendPort = options.backendPort ?? (await freePort());
  const home = options.home ?? newHome();
  const flags = options.backend
    ? ['--backend-url', options.backend.url, '--backend-secret', options.backend.secret]
    : ['--backend-port', String(backendPort)];
  const child = spawn(
    process.execPath,
    [path.join(root, 'scripts', 'start.mjs'), '--home', home, '--port', String(port), ...flags],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ATTUNE_UPSTREAMS: options.upstreams },
    },
  );
  let text = '';
  child.stdout.on('data', (chunk) => (text += chunk));
  child.stderr.on('data', (chunk) => (text += chunk));
  const exited = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  return { child, port, backendPort, home, output: () => text, exited };
}

/** Starts the product and waits until it says that it is ready. */
export async function startProduct(options: ProductOptions = {}): Promise<Product> {
  const launched = await launch(options);
  const { child, home, port, backendPort, output, exited } = launched;
  const stop = () => end(child, exited, options.home === undefined ? home : undefined);
  await waitForWelcome(launched).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  const env = readFileSync(path.join(home, 'dev.env'), 'utf8');
  return {
    baseUrl: read(env, 'ATTUNE_BASE_URL'),
    apiKey: read(env, 'ATTUNE_API_KEY'),
    home,
    port,
    backendPort,
    pid: child.pid ?? 0,
    output,
    exited,
    stop,
  };
}

async function waitForWelcome({ output, exited }: Awaited<ReturnType<typeof launch>>): Promise<void> {
  let code: number | null | undefined;
  void exited.then((value) => (code = value));
  const deadline = Date.now() + START_LIMIT_MS;
  while (!output().includes('Ctrl-C ends it.')) {
    if (code !== undefined || Date.now() > deadline)
      throw new Error(`The product did not start (exit code ${code}):\n${output()}`);
    await delay(50);
  }
}

async function end(
  child: ChildProcess,
  exited: Promise<number | null>,
  home: string | undefined,
): Promise<number | null> {
  child.kill('SIGINT');
  const code = await exited;
  if (home !== undefined) rmSync(home, { recursive: true, force: true });
  return code;
}

function read(env: string, name: string): string {
  const value = new RegExp(`^${name}=(.+)$`, 'm').exec(env)?.[1];
  if (value === undefined) throw new Error(`dev.env has no ${name}`);
  return value;
}
