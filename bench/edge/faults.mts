// Requests to an upstream with seeded faults: does each caller hear a proper end, and does the key's ledger say what they got?
import { setTimeout as sleep } from 'node:timers/promises';
import { call, inParallel, type Ending, type Outcome } from './calls.mts';
import type { Edge } from './processes.mts';
import { seededRandom } from './seeded-random.mts';
import { chat } from './settings.mts';

const WIDTH = 64;
/** No more are sent after this time: a machine that others use must not make the bench endless. */
const SEND_LIMIT_MS = 120_000;
const SETTLE_LIMIT_MS = 15_000;
/** Of a model without a price of its own: `functions/services/ledger/prices.ts`. */
const MICROS_PER_TOKEN = { input: 1, output: 4 };
const TEMPLATE_TOKENS = 256;
const MAX_TOKENS = 64;

type Fault = 'none' | 'busy' | 'gone' | 'cut' | 'slow';

/** 5 % the backend is full, 5 % something in front of it says 503, 5 % it breaks off, 5 % it is slow. */
function drawFault(draw: number): Fault {
  if (draw < 0.05) return 'busy';
  if (draw < 0.1) return 'gone';
  if (draw < 0.15) return 'cut';
  return draw < 0.2 ? 'slow' : 'none';
}

interface Charges {
  requests: number;
  input_tokens: number;
  output_tokens: number;
  cost_micros: number;
}

interface Limits {
  concurrency: { running: number };
  budget: { settled_micros: number; reserved_micros: number };
}

interface UsagePage {
  data: { results: (Omit<Charges, 'requests'> & { num_model_requests: number })[] }[];
}

export async function measureFaults(edge: Edge, { requests, seed }: { requests: number; seed: number }) {
  const random = seededRandom(seed);
  const draws = Array.from({ length: requests }, () => ({
    fault: drawFault(random()),
    isStream: random() < 0.5,
  }));
  const delivered: Charges = { requests: 0, input_tokens: 0, output_tokens: 0, cost_micros: 0 };
  const endings: Partial<Record<Ending, number>> = {};
  const wrong: string[] = [];
  /** Refused while the circuit was open: the upstream never heard of them. */
  let refused = 0;
  let sent = 0;
  const endMs = Date.now() + SEND_LIMIT_MS;
  await inParallel(requests, WIDTH, async (index) => {
    if (Date.now() > endMs) return;
    sent += 1;
    const { fault, isStream } = draws[index];
    const body = chat(fault, isStream ? { stream: true, stream_options: { include_usage: true } } : {});
    const outcome = await call(edge.chatUrl, edge.headers, body);
    endings[outcome.ending] = (endings[outcome.ending] ?? 0) + 1;
    const wanted = endingOf(fault, isStream);
    const isRefused = wanted !== 'error' && outcome.ending === 'error' && outcome.status === 503;
    if (isRefused) refused += 1;
    else if (outcome.ending !== wanted) wrong.push(`${fault}: ${JSON.stringify(outcome)}`);
    charge(delivered, outcome, JSON.stringify([body.messages, null, null]));
  });
  const accounts = await settled(edge, delivered);
  return { sent, endings, wrong, refused, delivered, ...accounts };
}

function endingOf(fault: Fault, isStream: boolean): Ending {
  if (fault === 'busy' || fault === 'gone') return 'error';
  if (fault === 'cut') return isStream ? 'error_event' : 'error';
  return 'answer';
}

/** What docs/limits.md says that a caller pays: the stated usage, and for a broken stream the prompt as reserved and each byte that passed. */
function charge(sum: Charges, { ending, text, usage }: Outcome, prompt: string): void {
  const isBegun = ending === 'answer' || (ending === 'error_event' && text !== '');
  if (!isBegun) return;
  const input = usage?.prompt_tokens ?? Buffer.byteLength(prompt) + TEMPLATE_TOKENS;
  const output = usage?.completion_tokens ?? Math.min(MAX_TOKENS, Buffer.byteLength(text) + 1);
  sum.requests += 1;
  sum.input_tokens += input;
  sum.output_tokens += output;
  sum.cost_micros += input * MICROS_PER_TOKEN.input + output * MICROS_PER_TOKEN.output;
}

/** What the edge has written down, as soon as it is what was delivered, or after a time. */
async function settled({ url, headers }: Edge, delivered: Charges) {
  const get = async <T,>(path: string) => (await fetch(url + path, { headers })).json() as Promise<T>;
  const endMs = Date.now() + SETTLE_LIMIT_MS;
  for (;;) {
    const { budget, concurrency } = await get<Limits>('/v1/limits');
    const page = await get<UsagePage>(`/v1/usage?start_time=${Math.floor(Date.now() / 1000) - 3600}`);
    const usage: Charges = { requests: 0, input_tokens: 0, output_tokens: 0, cost_micros: 0 };
    for (const result of page.data.flatMap((bucket) => bucket.results)) {
      usage.requests += result.num_model_requests;
      for (const name of ['input_tokens', 'output_tokens', 'cost_micros'] as const)
        usage[name] += result[name];
    }
    const isEqual = JSON.stringify(usage) === JSON.stringify(delivered);
    const isClosed = concurrency.running === 0 && budget.reserved_micros === 0;
    const isLedgerEqual = budget.settled_micros === delivered.cost_micros && isClosed;
    if ((isEqual && isLedgerEqual) || Date.now() > endMs)
      return { usage, ledgerMicros: budget.settled_micros, isEqual: isEqual && isLedgerEqual };
    await sleep(500);
  }
}
