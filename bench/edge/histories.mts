// Histories of one key with 200 parallel requests at its budget's edge, before the real Durable Object in workerd: is any budget exceeded, or a request refused that would have fitted?
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { inParallel } from './calls.mts';
import { startLedger } from './processes.mts';
import { seededRandom } from './seeded-random.mts';

const REQUESTS = 200;
const MAX_MICROS = 100;
/** Requests are sent within this time, and run so long at most. */
const SENDING_MS = 15;
const RUNNING_MS = 20;
/** After one of so many settlements somebody reads the limits; each reservation says them anyway. */
const SETTLEMENTS_A_READ = 4;
/** So many processes play so many histories at once each, of a key of its own. */
const PROCESSES = 2;
const WIDTH = 4;
/** No more begin after this time: a machine that others use must not make the bench endless. */
const LIMIT_MS = 180_000;

/** What `test/support/ledger-history.ts` says of one. */
interface Played {
  refused: number;
  seen: number;
  wrong: string[];
}

export async function measureHistories({ histories, seed }: { histories: number; seed: number }) {
  const script = await bundleWorker();
  const workers = await Promise.all(Array.from({ length: PROCESSES }, () => startLedger(script)));
  const sum = { histories: 0, requests: 0, refused: 0, seen: 0 };
  const wrong: string[] = [];
  const endMs = Date.now() + LIMIT_MS;
  await inParallel(histories, PROCESSES * WIDTH, async (index) => {
    if (Date.now() > endMs) return;
    const body = JSON.stringify(drawHistory(index, seed));
    const response = await fetch(workers[index % PROCESSES].url, { method: 'POST', body });
    if (!response.ok) throw new Error(`A history ended with ${response.status}: .attune/logs/bench-edge.log`);
    const played = (await response.json()) as Played;
    sum.histories += 1;
    sum.requests += REQUESTS;
    sum.refused += played.refused;
    sum.seen += played.seen;
    wrong.push(...played.wrong.map((line) => `history ${index}, ${line}`));
  });
  await Promise.all(workers.map((worker) => worker.end()));
  return { ...sum, wrong };
}

/** Its budget holds from a tenth to nine tenths of what all requests could cost together. */
function drawHistory(index: number, seed: number) {
  const random = seededRandom(seed * 1_000_003 + index);
  const whole = (most: number) => Math.floor(random() * (most + 1));
  const requests = Array.from({ length: REQUESTS }, () => ({
    micros: 1 + whole(MAX_MICROS - 1),
    usedMicros: whole(1.2 * MAX_MICROS),
    // Two thirds come at once, and the others while those end.
    afterMs: random() < 2 / 3 ? 0 : whole(SENDING_MS),
    runsMs: whole(RUNNING_MS),
    isLookedAt: random() < 1 / SETTLEMENTS_A_READ,
  }));
  const most = requests.reduce((sum, { micros }) => sum + micros, 0);
  return { keyId: `key_${seed}_${index}`, budgetMicros: Math.floor(most * (0.1 + 0.8 * random())), requests };
}

async function bundleWorker(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('ledger-worker.mjs', import.meta.url))],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2024',
    conditions: ['workerd', 'worker'],
    external: ['cloudflare:*'],
  });
  return outputFiles[0].text;
}
