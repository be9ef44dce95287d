// A thousand streams open at once through one edge process: how many come to their end, and what memory they take.
import { setTimeout as sleep } from 'node:timers/promises';
import { call } from './calls.mts';
import type { Edge, MockBackend } from './processes.mts';
import { memoryOf } from './process-use.mts';
import { chat } from './settings.mts';

export const STREAMS = 1_000;
const OPEN_LIMIT_MS = 60_000;
/** They stay open for a while, with comments that break the silence. */
const HOLD_MS = 2_000;

export async function measureStreams(edge: Edge, mock: MockBackend) {
  const before = memoryOf(edge.pid);
  const body = chat('hold', { stream: true, stream_options: { include_usage: true } });
  const running = Array.from({ length: STREAMS }, () =>
    call(edge.chatUrl, edge.headers, body).catch(() => undefined),
  );
  const endMs = Date.now() + OPEN_LIMIT_MS;
  let open = 0;
  while (open < STREAMS && Date.now() < endMs) {
    await sleep(100);
    open = await mock.ask('held');
  }
  await sleep(HOLD_MS);
  const atOnce = memoryOf(edge.pid);
  const outcomes = await releaseAll(mock, Promise.all(running));
  const whole = outcomes.filter((outcome) => outcome?.ending === 'answer').length;
  return { open, lost: STREAMS - whole, before, atOnce, after: memoryOf(edge.pid) };
}

/** Also those that open only now, on a machine that was too busy before. */
async function releaseAll<T>(mock: MockBackend, ending: Promise<T[]>): Promise<T[]> {
  const endMs = Date.now() + OPEN_LIMIT_MS;
  while (Date.now() < endMs) {
    await mock.ask('release');
    const outcomes = await Promise.race([ending, sleep(500, undefined)]);
    if (outcomes !== undefined) return outcomes;
  }
  throw new Error('the streams did not come to their end within a minute');
}
