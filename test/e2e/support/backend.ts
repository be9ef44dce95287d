// A backend process that a story can kill and start again under the same address and secret.
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startBackend } from '../../../scripts/lib/backend.mjs';
import { paths } from '../../../scripts/lib/paths.mjs';
import { freePort } from '../../../scripts/lib/ports.mjs';
import { waitUntilReady } from '../../../scripts/lib/ready.mjs';
import { signalGroup } from '../../../scripts/lib/services.mjs';

const START_LIMIT_MS = 90_000;

export class MortalBackend {
  readonly secret = randomBytes(16).toString('hex');
  private service: ReturnType<typeof startBackend> | undefined;

  private constructor(readonly port: number) {}

  static async start(): Promise<MortalBackend> {
    const backend = new MortalBackend(await freePort());
    await backend.start();
    return backend;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts the process (again) and waits for its first forward pass. */
  async start(): Promise<void> {
    const logs = path.join(paths.logs, 'e2e');
    mkdirSync(logs, { recursive: true });
    const service = startBackend({
      port: this.port,
      secret: this.secret,
      log: path.join(logs, `backend-${this.port}.log`),
    });
    this.service = service;
    await waitUntilReady(`${this.url}/ready`, { limitMs: START_LIMIT_MS, isHopeless: service.hasExited });
  }

  /** Ends the process the way a lost machine does: at once and without a word. */
  async kill(): Promise<void> {
    if (this.service === undefined) return;
    signalGroup(this.service.pid, 'SIGKILL');
    await this.service.exited;
  }

  async stop(): Promise<void> {
    await this.service?.end();
  }
}

/** One gauge or counter of a backend's metrics, summed over the labels that are not given; 0 when not counted yet. */
export async function metric(
  backendUrl: string,
  name: string,
  labels: Record<string, string> = {},
): Promise<number> {
  const text = await (await fetch(`${backendUrl}/metrics`)).text();
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) && wanted.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** How long it took until the condition held, in milliseconds; fails when it takes longer than the limit. */
export async function timeUntil(condition: () => Promise<boolean>, limitMs: number): Promise<number> {
  const began = performance.now();
  while (!(await condition())) {
    if (performance.now() - began > limitMs) throw new Error(`not so after ${limitMs} ms`);
    await delay(20);
  }
  return performance.now() - began;
}
