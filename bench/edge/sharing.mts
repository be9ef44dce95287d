// A hundred identical requests at once: how often the backend runs, and whether all get the same answer.
import { call } from './calls.mts';
import type { Edge, MockBackend } from './processes.mts';
import { chat } from './settings.mts';

export const CALLERS = 100;

export async function measureSharing(edge: Edge, mock: MockBackend) {
  const before = await mock.ask('runs');
  const body = chat('pause', { temperature: 0, seed: 7, user: 'sharing' });
  const asking = Array.from({ length: CALLERS }, () => call(edge.chatUrl, edge.headers, body));
  const outcomes = await Promise.all(asking);
  const answers = outcomes.filter(({ ending }) => ending === 'answer');
  const exits = Object.fromEntries(
    ['full', 'coalesced', 'cache'].map((name) => [name, outcomes.filter(({ exit }) => exit === name).length]),
  );
  return {
    runs: (await mock.ask('runs')) - before,
    answers: answers.length,
    different: new Set(answers.map(({ text, usage }) => JSON.stringify([text, usage]))).size,
    exits,
  };
}
