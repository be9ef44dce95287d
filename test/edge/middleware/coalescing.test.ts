// Equal requests at the same time through the whole app and real Durable Objects: one run, whoever leaves.
import { createExecutionContext } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { bindings } from '../../support/bindings';
import { listing } from '../../support/catalog';
import {
  call,
  chatBody,
  errorOf,
  eventually,
  makeKey,
  newBody,
  requestOf,
  runsOf,
  seenByBackend,
  type CallOptions,
} from '../../support/harness';

// One for all requests, as in one Worker, and without comments in silence, which each caller gets at their own time.
const newApp = () => createApp({ ...listing('r1'), keepAliveMs: 60_000, probeMs: Infinity });
const app = newApp();
const env = { ...bindings };

type Options = Pick<CallOptions, 'signal' | 'headers'> & { of?: typeof app };

async function send(key: string, body: unknown, { of = app, ...options }: Options = {}): Promise<Response> {
  const request = requestOf('/v1/chat/completions', { key, body, ...options });
  return of.fetch(request, env, createExecutionContext());
}

const exitOf = ({ headers }: Response) => headers.get('x-attune-exit');
const begun = (seed: number) => eventually(async () => (await runsOf(seed)) === 1, 10_000);
const isLeft = async (seed: number) => ((await seenByBackend({ seed }))?.leftAtMs ?? null) !== null;

interface Limits {
  budget: { settled_micros: number; reserved_micros: number };
  concurrency: { running: number };
}

/** What a key has spent when nothing of it runs any more. */
async function spentBy(key: string): Promise<number> {
  let limits: Limits | undefined;
  await eventually(async () => {
    limits = await (await call('/v1/limits', { key })).json<Limits>();
    return limits.concurrency.running === 0;
  }, 10_000);
  expect(limits!.concurrency.running).toBe(0);
  return limits!.budget.settled_micros;
}

describe('100 equal requests at once', () => {
  it.each([false, true])(
    'are one run with 100 equal answers that cost one (stream: %s)',
    async (stream) => {
      const key = await makeKey({ limits: { budget_micros: 1e9 } });
      const { seed, body } = newBody({ model: 'slow', stream });
      const answers = await Promise.all(
        Array.from({ length: 100 }, async () => {
          const response = await send(key, body);
          return { status: response.status, exit: exitOf(response), text: await response.text() };
        }),
      );
      expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
      expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
      expect(answers[0]!.text.trimEnd().endsWith(stream ? 'data: [DONE]' : '}')).toBe(true);
      expect(answers.filter(({ exit }) => exit === 'full')).toHaveLength(1);
      expect(answers.filter(({ exit }) => exit === 'coalesced').length).toBeGreaterThan(0);
      expect(await runsOf(seed)).toBe(1);
      // Three tokens in at 1, two out at 4.
      expect(await spentBy(key)).toBe(11);
    },
    60_000,
  );
});

describe('requests that share a run', () => {
  it('are each one of the requests of the minute', async () => {
    // One comes back in ten seconds.
    const key = await makeKey({ limits: { requests_per_minute: 6, budget_micros: 1e9 } });
    const { seed, body } = newBody({ model: 'slow' });
    const responses = await Promise.all(Array.from({ length: 5 }, () => send(key, body)));
    expect(responses.filter((response) => exitOf(response) === 'coalesced')).toHaveLength(4);
    expect(await runsOf(seed)).toBe(1);
    const remaining = responses.map(({ headers }) => headers.get('x-ratelimit-remaining-requests'));
    expect(new Set(remaining)).toEqual(new Set(['1', '2', '3', '4', '5']));
    expect(await spentBy(key)).toBe(11);
    const { requests } = await (await call('/v1/limits', { key })).json<{ requests: object }>();
    expect(requests).toMatchObject({ limit: 6, remaining: 1 });
  });
});

describe('requests that differ', () => {
  it('run by themselves: other people, other words, another deadline, or a caller who wants no kept answer', async () => {
    const key = await makeKey();
    const { seed, body } = newBody({ model: 'slow' });
    const responses = await Promise.all([
      send(key, body),
      send(await makeKey(), body),
      send(key, { ...body, user: 'ann' }),
      send(key, { ...body, user: 'bob' }),
      send(key, { ...body, messages: [{ role: 'user', content: 'Hello!' }] }),
      send(key, body, { headers: { 'x-deadline-ms': '50000' } }),
      send(key, body, { headers: { 'cache-control': 'no-cache' } }),
      send(key, body, { headers: { 'cache-control': 'no-store' } }),
      send(await makeKey({ limits: { zero_data_retention: 1 } }), body),
    ]);
    expect(responses.map(exitOf)).toEqual(responses.map(() => 'full'));
    expect(await runsOf(seed)).toBe(responses.length);
  });

  it('run by themselves when they leave something to chance', async () => {
    const key = await makeKey();
    const body = chatBody({ model: 'slow' });
    const responses = await Promise.all([send(key, body), send(key, body)]);
    expect(responses.map(exitOf)).toEqual(['full', 'full']);
  });
});

describe('a caller who leaves', () => {
  it.each(['the first', 'the second'])('does not stop the other of a stream (%s)', async (who) => {
    const key = await makeKey();
    const { seed, body } = newBody({ model: 'quiet', stream: true });
    const first = await send(key, body);
    const second = await send(key, body);
    expect([first, second].map(exitOf)).toEqual(['full', 'coalesced']);
    const [leaver, stayer] = who === 'the first' ? [first, second] : [second, first];
    const reader = leaver.body!.getReader();
    await reader.read();
    await reader.cancel();
    const text = await stayer.text();
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
    expect([await runsOf(seed), await isLeft(seed)]).toEqual([1, false]);
  });

  it('does not stop the other of a whole answer, whichever of both it is', async () => {
    for (const leaver of [0, 1]) {
      const key = await makeKey();
      const { seed, body } = newBody({ model: 'slow' });
      const leaving = new AbortController();
      const sendOne = (at: number) => send(key, body, at === leaver ? { signal: leaving.signal } : {});
      const first = sendOne(0);
      expect(await begun(seed)).toBe(true);
      const second = sendOne(1);
      await new Promise((resolve) => setTimeout(resolve, 50));
      leaving.abort();
      const stayer = await (leaver === 0 ? second : first);
      expect([stayer.status, await runsOf(seed)]).toEqual([200, 1]);
      await Promise.allSettled([first, second]);
    }
  });

  it('pays what passed; the first who has the whole answer pays for it', async () => {
    const [key, other] = [
      await makeKey({ limits: { budget_micros: 1e9 } }),
      newBody({ model: 'quiet', stream: true }),
    ];
    const first = await send(key, other.body);
    const [second, third] = [await send(key, other.body), await send(key, other.body)];
    const reader = first.body!.getReader();
    await reader.cancel();
    for (const response of [second, third]) expect(await response.text()).toContain('[DONE]');
    // The prompt as reserved for the first, and once what the answer says.
    const prompt =
      new TextEncoder().encode(JSON.stringify([other.body['messages'], null, null])).length + 256;
    expect(await spentBy(key)).toBe(prompt + 11);
  });

  it.each(['silent', 'endless'])('as the last one stops the backend (%s)', async (model) => {
    const key = await makeKey();
    const { seed, body } = newBody({ model, stream: true });
    const readers = [];
    for (let i = 0; i < 2; i++) readers.push((await send(key, body)).body!.getReader());
    for (const reader of readers) await reader.read();
    await readers[0]!.cancel();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect([await runsOf(seed), await isLeft(seed)]).toEqual([1, false]);
    await readers[1]!.cancel();
    expect(await eventually(() => isLeft(seed), 2000)).toBe(true);
  });

  it('as the last one stops the backend before it has said a word', async () => {
    const key = await makeKey();
    const { seed, body } = newBody({ model: 'hang' });
    const leaving = [new AbortController(), new AbortController()];
    const pending = leaving.map(({ signal }) => send(key, body, { signal }));
    expect(await begun(seed)).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 200));
    leaving[0]!.abort();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect([await runsOf(seed), await isLeft(seed)]).toEqual([1, false]);
    leaving[1]!.abort();
    expect(await eventually(() => isLeft(seed), 2000)).toBe(true);
    await Promise.allSettled(pending);
  });
});

// Each with an app of its own: five failures in a row open the circuit of the backend, for whoever shares the app.
describe('a run that fails', () => {
  it.each([
    ['late-refusal', 404, 'model_not_found'],
    ['reset', 503, 'backend_unavailable'],
  ])('gives each its own error before the answer (%s)', async (model, status, code) => {
    const key = await makeKey({ limits: { budget_micros: 1e9 } });
    const { body } = newBody({ model });
    const of = newApp();
    const responses = await Promise.all(Array.from({ length: 5 }, () => send(key, body, { of })));
    const ids = new Set<string>();
    for (const response of responses) {
      expect(response.status).toBe(status);
      const error = await errorOf(response);
      expect([error.code, error.request_id]).toEqual([code, response.headers.get('x-request-id')]);
      ids.add(error.request_id);
    }
    expect(ids.size).toBe(5);
    expect(await spentBy(key)).toBe(0);
  });

  it('gives each its own event in a stream, and the next request a run of its own', async () => {
    const key = await makeKey();
    const of = newApp();
    const { seed, body } = newBody({ model: 'error-event', stream: true });
    const responses = await Promise.all(Array.from({ length: 5 }, () => send(key, body, { of })));
    for (const response of responses) {
      const events = (await response.text()).trimEnd().split('\n\n');
      const { error } = JSON.parse(events.at(-1)!.slice(6)) as {
        error: { code: string; request_id: string };
      };
      expect(error).toMatchObject({
        code: 'deadline_exceeded',
        request_id: response.headers.get('x-request-id'),
      });
    }
    const numRuns = await runsOf(seed);
    await (await send(key, body, { of })).text();
    expect(await runsOf(seed)).toBe(numRuns + 1);
  });
});

describe('the place where requests meet', () => {
  it('is no part of the way when it is away', async () => {
    const runs = { getByName: () => ({ fetch: () => Promise.reject(new Error('away')) }) };
    const { seed, body } = newBody();
    const response = await call('/v1/chat/completions', { key: await makeKey(), body, env: { RUNS: runs } });
    expect([response.status, exitOf(response), await runsOf(seed)]).toEqual([200, 'full', 1]);
  });
});
