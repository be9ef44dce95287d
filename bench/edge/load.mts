// Requests per second of several addresses, in short rounds that take turns, so that a slow moment of the machine hits all.
import { median } from '../report.mjs';
import { cpuMsOf } from './process-use.mts';
import { requireRival } from './rivals.mts';
import { CONNECTIONS, ROUND_SECONDS, ROUNDS, WARM_UP_SECONDS } from './settings.mts';

export interface Target {
  name: string;
  url: string;
  headers: Record<string, string>;
  body: string;
  /** Of the process that answers. */
  pid: number;
}

export interface Speed {
  name: string;
  perSecond: number[];
  /** Milliseconds of processor time a request, by round; empty where the system does not say. */
  cpuMs: number[];
}

interface LoadResult {
  errors: number;
  non2xx: number;
  duration: number;
  '2xx': number;
}

/** autocannon, which has no types of its own. */
const autocannon = () => requireRival('autocannon') as (options: object) => Promise<LoadResult>;

export async function measureLoad(targets: Target[]): Promise<Speed[]> {
  for (const target of targets) await round(target, WARM_UP_SECONDS);
  const speeds = targets.map(({ name }) => ({ name, perSecond: [] as number[], cpuMs: [] as number[] }));
  for (let turn = 0; turn < ROUNDS; turn++) {
    for (const index of targets.keys()) {
      // Who goes first changes.
      const at = (index + turn) % targets.length;
      const { perSecond, cpuMs } = await round(targets[at], ROUND_SECONDS);
      speeds[at].perSecond.push(perSecond);
      if (cpuMs !== undefined) speeds[at].cpuMs.push(cpuMs);
    }
  }
  return speeds;
}

async function round({ name, url, headers, body, pid }: Target, seconds: number) {
  const before = cpuMsOf(pid);
  const options = { url, method: 'POST', headers, body, connections: CONNECTIONS, duration: seconds };
  const result = await autocannon()(options);
  if (result.errors > 0 || result.non2xx > 0)
    throw new Error(`${name}: ${result.errors} errors and ${result.non2xx} refusals under load`);
  const count = result['2xx'];
  const after = cpuMsOf(pid);
  const cpuMs =
    before === undefined || after === undefined || count === 0 ? undefined : (after - before) / count;
  return { perSecond: count / result.duration, cpuMs };
}

/** The median over rounds of one's speed as a multiple of another's in the same round. */
export function ratioOf(speeds: Speed[], name: string, other: string): number {
  const of = (wanted: string) => speeds.find((speed) => speed.name === wanted)?.perSecond ?? [];
  const theirs = of(other);
  return median(of(name).map((value, turn) => value / theirs[turn]));
}
