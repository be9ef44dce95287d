// How long one request after another takes on one connection, at several addresses in turns.
import { Agent, request } from 'node:http';
import type { Target } from './load.mts';

const WARM_UP = 100;
const BLOCKS = 20;
const PER_BLOCK = 25;

export interface Latency {
  name: string;
  ms: number[];
}

export async function measureLatency(targets: Target[]): Promise<Latency[]> {
  const agents = targets.map(() => new Agent({ keepAlive: true, maxSockets: 1 }));
  const latencies = targets.map(({ name }) => ({ name, ms: [] as number[] }));
  for (const [at, target] of targets.entries())
    for (let i = 0; i < WARM_UP; i++) await post(target, agents[at]);
  for (let block = 0; block < BLOCKS; block++) {
    for (const [at, target] of targets.entries()) {
      for (let i = 0; i < PER_BLOCK; i++) {
        const began = performance.now();
        await post(target, agents[at]);
        latencies[at].ms.push(performance.now() - began);
      }
    }
  }
  for (const agent of agents) agent.destroy();
  return latencies;
}

function post({ name, url, headers, body }: Target, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    const sending = request(url, { method: 'POST', headers, agent }, (response) => {
      response.resume();
      response.once('error', reject);
      response.once('end', () => {
        if (response.statusCode === 200) resolve();
        else reject(new Error(`${name} answered ${response.statusCode}`));
      });
    });
    sending.once('error', reject);
    sending.end(body);
  });
}

/** @param share 0.5 for the median */
export function quantile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
