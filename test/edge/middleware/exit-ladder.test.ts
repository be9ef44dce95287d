// The cache through the whole app: who gets an answer again, what it costs, and what is never kept.
import { describe, expect, it } from 'vitest';
import type { Services } from '../../../functions/context';
import { newId } from '../../../functions/lib/id';
import type { CacheKey } from '../../../functions/services/exit-ladder';
import type { ProjectRegistry } from '../../../functions/services/projects';
import { bindings } from '../../support/bindings';
import { listing } from '../../support/catalog';
import {
  budgetOf,
  call,
  chatBody,
  eventually,
  makeKey,
  newBody,
  runsOf,
  type CallOptions,
} from '../../support/harness';

const CHAT = '/v1/chat/completions';

const send = (key: string, body: unknown, headers: Record<string, string> = {}, options: CallOptions = {}) =>
  call(CHAT, { key, body, headers, ...options });

const cacheOf = ({ headers }: Response) => [headers.get('x-attune-exit'), headers.get('x-cache')];
const HIT = ['cache', 'hit'];
const MISS = ['full', 'miss'];
const BYPASS = ['full', 'bypass'];

const r1 = listing('r1');

/** Asks until the answer is kept, which happens after it was given. */
async function hitOf(ask: () => Promise<Response>): Promise<Response> {
  let response: Response | undefined;
  await eventually(async () => {
    response = await ask();
    return response.headers.get('x-cache') === 'hit';
  }, 10_000);
  return response!;
}

describe('an equal request', () => {
  it.each([{ temperature: 0 }, { temperature: 1.5 }])(
    'gets the first answer again, runs nothing and costs nothing, but is a request (%j, with a seed)',
    async (changes) => {
      const key = await makeKey({ limits: { requests_per_minute: 2, budget_micros: 1e9 } });
      const { seed, body } = newBody(changes);
      const first = await send(key, body);
      expect([first.status, ...cacheOf(first)]).toEqual([200, ...MISS]);
      expect(first.headers.has('age')).toBe(false);
      const budget = await budgetOf(key);
      expect(budget.settled_micros).toBeGreaterThan(0);
      const shuffled = JSON.stringify(Object.fromEntries(Object.entries(body).reverse()), null, 2);
      const again = await send(key, shuffled);
      expect([again.status, ...cacheOf(again)]).toEqual([200, ...HIT]);
      expect(again.headers.get('age')).toMatch(/^\d$/);
      expect(again.headers.get('server-timing')).toMatch(/cache;dur=\d+/);
      expect(again.headers.get('content-type')).toBe(first.headers.get('content-type'));
      expect(again.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'));
      expect(again.headers.get('x-ratelimit-remaining-requests')).toBe('0');
      expect(await again.text()).toBe(await first.text());
      expect(await runsOf(seed)).toBe(1);
      expect(await budgetOf(key)).toEqual(budget);
      expect((await send(key, body)).status).toBe(429);
    },
  );

  it('of another API key of the same project is one, too', async () => {
    const projectId = newId('project');
    const { seed, body } = newBody();
    await send(await makeKey({ projectId }), body);
    expect(cacheOf(await send(await makeKey({ projectId }), body))).toEqual(HIT);
    expect(await runsOf(seed)).toBe(1);
  });

  it('without a seed at a temperature above 0 runs again', async () => {
    const key = await makeKey();
    for (const body of [
      chatBody(),
      chatBody({ temperature: 1 }),
      chatBody({ temperature: null, seed: null }),
    ]) {
      for (let i = 0; i < 2; i++) expect(cacheOf(await send(key, body))).toEqual(BYPASS);
    }
    expect(cacheOf(await send(key, chatBody({ temperature: 0 })))).toEqual(MISS);
    expect(cacheOf(await send(key, chatBody({ temperature: 0 })))).toEqual(HIT);
  });

  const judge = { model: 'fake-judge', input: 'Which?' };
  const search = { model: 'fake-judge', query: 'Which?', documents: ['good 1', 'good 2'] };
  it.each([
    ['/v1/rewards/compare', { ...judge, a: 'good 1', b: 'good 2' }],
    ['/v1/rewards/score', { ...judge, responses: ['good 1', 'good 2'] }],
    ['/v1/rewards/rank', { ...judge, responses: ['good 1', 'good 2'] }],
    ['/v1/decisions', { ...judge, questions: [{ type: 'predicate', instructions: 'So?' }] }],
    ['/v1/rerank', search],
    ['/v2/rerank', search],
    ['/v1/score', { model: 'fake-judge', text_1: ['a', 'b'], text_2: ['good 1', 'good 2'] }],
    ['/v1/tokenize', { model: 'fake', text: 'Hello' }],
    [CHAT, chatBody({ temperature: 0, best_of: 2, reward_model: 'fake-judge' })],
  ])('of %s gets the same bytes', async (path, body) => {
    const key = await makeKey();
    const [first, again] = [await call(path, { key, body }), await call(path, { key, body })];
    expect([first.status, ...cacheOf(first)]).toEqual([200, ...MISS]);
    expect([again.status, ...cacheOf(again)]).toEqual([200, ...HIT]);
    expect(await again.text()).toBe(await first.text());
  });
});

describe('a stream', () => {
  it.each(['fake', 'quiet', 'tools', 'bytewise'])('comes again without its silence (%s)', async (model) => {
    const key = await makeKey({ limits: { budget_micros: 1e9 } });
    const services = { ...r1, keepAliveMs: 100 };
    const { seed, body } = newBody({ model, stream: true, stream_options: { include_usage: true } });
    const ask = () => send(key, body, {}, { services });
    const first = await ask();
    expect(cacheOf(first)).toEqual(MISS);
    const text = await first.text();
    if (model === 'quiet') expect(text).toContain(': keep-alive');
    const again = await hitOf(ask);
    expect(cacheOf(again)).toEqual(HIT);
    for (const name of ['content-type', 'cache-control', 'x-accel-buffering', 'x-data-retention']) {
      expect([name, again.headers.get(name)]).toEqual([name, first.headers.get(name)]);
    }
    expect(await again.text()).toBe(text.replaceAll(/^:.*\n\n/gm, ''));
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
    // Asked again before it was kept it may have run once more.
    expect(await runsOf(seed)).toBeLessThanOrEqual(2);
  });

  it('is not the answer of a request that is not streamed', async () => {
    const key = await makeKey();
    const { body } = newBody();
    await (await send(key, { ...body, stream: true })).text();
    expect(cacheOf(await send(key, body))).toEqual(MISS);
  });

  it.each(['cut', 'end-without-done', 'error-event', 'garbage'])(
    'that broke off is not kept (%s)',
    async (model) => {
      const key = await makeKey();
      const { seed, body } = newBody({ model, stream: true });
      for (const numRuns of [1, 2, 3]) {
        const response = await send(key, body, {}, { services: r1 });
        expect(cacheOf(response)).toEqual(MISS);
        expect(await response.text()).toContain('"error"');
        expect(await runsOf(seed)).toBe(numRuns);
      }
    },
  );

  it('that its caller left is not kept', async () => {
    const key = await makeKey();
    const { seed, body } = newBody({ model: 'silent', stream: true });
    for (const numRuns of [1, 2]) {
      const response = await send(key, body, {}, { services: r1 });
      const reader = response.body!.getReader();
      await reader.read();
      await reader.cancel();
      expect(await runsOf(seed)).toBe(numRuns);
    }
  });
});

describe('Cache-Control of the request', () => {
  it('no-store neither looks nor keeps', async () => {
    const key = await makeKey();
    const { seed, body } = newBody();
    expect(cacheOf(await send(key, body, { 'cache-control': 'no-store' }))).toEqual(BYPASS);
    expect(cacheOf(await send(key, body))).toEqual(MISS);
    expect(cacheOf(await send(key, body, { 'cache-control': 'no-store' }))).toEqual(BYPASS);
    expect(await runsOf(seed)).toBe(3);
  });

  it('no-cache runs again and keeps the new answer', async () => {
    const key = await makeKey();
    const { seed, body } = newBody();
    await send(key, body);
    const fresh = await send(key, body, { 'cache-control': 'no-cache' });
    expect(cacheOf(fresh)).toEqual(MISS);
    const again = await send(key, body);
    expect(cacheOf(again)).toEqual(HIT);
    expect(await again.text()).toBe(await fresh.text());
    expect(await runsOf(seed)).toBe(2);
  });

  it('max-age takes no older answer', async () => {
    const usage = {
      prompt_tokens: 1,
      completion_tokens: 1,
      total_tokens: 2,
      prompt_tokens_details: { cached_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 0 },
    };
    const name = { id: 'kept', object: 'chat.completion', created: 1, model: 'fake' };
    const answer = { ...name, system_fingerprint: null, choices: [], usage };
    const body = new TextEncoder().encode(JSON.stringify(answer));
    const kept = { headers: { 'content-type': 'application/json' }, body };
    const answerCache = {
      keyOf: async () => ({ projectId: 'p', hash: newId('key') }),
      find: async () => ({ ...kept, keptAtMs: Date.now() - 30_500 }),
      keep: async () => {},
      forget: async () => {},
      erase: async () => {},
    };
    const ask = async (age: number) =>
      send(
        await makeKey(),
        newBody().body,
        { 'cache-control': `max-age=${age}` },
        { services: { answerCache } },
      );
    expect(cacheOf(await ask(29))).toEqual(MISS);
    const response = await ask(30);
    expect([...cacheOf(response), response.headers.get('age')]).toEqual([...HIT, '30']);
    expect(await response.json()).toEqual(answer);
  });
});

describe('what is never kept', () => {
  const keptOf = async (projectId: string) => (await bindings.CACHE.list({ prefix: projectId })).keys.length;

  it('is there at all when it may be kept', async () => {
    const projectId = newId('project');
    await send(await makeKey({ projectId }), newBody().body);
    expect(await keptOf(projectId)).toBe(1);
  });

  it.each([
    ['answers to a key with zero data retention', { limits: { zero_data_retention: 1 } }, {}, {}, 200],
    ['answers that are stored under an id of their own', {}, { store: true }, {}, 200],
    ['answers to requests that say so', {}, {}, { 'cache-control': 'no-store' }, 200],
    ['answers of more than 1 MiB', {}, { model: 'long' }, {}, 200],
    ['errors of the backend', {}, { model: 'missing' }, {}, 404],
    ['errors that pass', {}, { model: 'overloaded' }, {}, 503],
    ['refusals', {}, { top_p: 9 }, {}, 400],
  ])('are %s', async (_, options, changes, headers, status) => {
    const projectId = newId('project');
    const key = await makeKey({ projectId, ...options });
    const { body } = newBody(changes);
    for (let i = 0; i < 2; i++) {
      const response = await send(key, body, headers, { services: r1 });
      expect(response.status).toBe(status);
      expect(response.headers.get('x-cache')).not.toBe('hit');
      // An error says nothing of the cache.
      expect(response.headers.has('x-attune-exit')).toBe(status === 200);
      await response.text();
    }
    expect(await keptOf(projectId)).toBe(0);
  });

  it('are answers of a model that has changed meanwhile, or that nobody knows', async () => {
    for (const services of [
      listing('r1', 'r2'),
      { models: { ...r1.models, reload: () => Promise.reject(new Error('away')) } },
    ]) {
      const projectId = newId('project');
      const key = await makeKey({ projectId });
      expect(cacheOf(await send(key, newBody().body, {}, { services }))).toEqual(MISS);
      expect(await keptOf(projectId)).toBe(0);
    }
    const key = await makeKey();
    for (let i = 0; i < 2; i++)
      expect(cacheOf(await send(key, newBody({ model: 'unlisted' }).body))).toEqual(BYPASS);
  });

  it('is said by x-data-retention', async () => {
    const key = await makeKey();
    const spans = [
      await send(key, newBody().body),
      await send(key, newBody().body, { 'idempotency-key': 'k' }),
      await send(key, newBody().body, { 'cache-control': 'no-store' }),
      await send(key, newBody({ store: true }).body),
    ].map(({ headers }) => headers.get('x-data-retention'));
    expect(spans).toEqual(['1h', '24h', 'none', '30d']);
  });
});

describe('nobody gets the answer', () => {
  const messages = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Hello' },
  ];

  it('of another project, end user, system prompt, parameter, path or revision of a model', async () => {
    const key = await makeKey();
    const { body } = newBody({ messages, user: 'ann' });
    await send(key, body, {}, { services: r1 });
    const others: [string, Record<string, unknown>, Partial<Services>][] = [
      [await makeKey(), body, r1],
      [key, { ...body, user: 'bob' }, r1],
      [key, { ...body, user: undefined }, r1],
      [key, { ...body, messages: [{ ...messages[0], content: 'Be brief!' }, messages[1]] }, r1],
      [key, { ...body, messages: messages.slice(1) }, r1],
      [key, { ...body, max_tokens: 3 }, r1],
      [key, { ...body, metadata: { a: 'b' } }, r1],
      [key, { ...body, model: 'quiet' }, r1],
      [key, body, listing('r2')],
    ];
    for (const [other, changed, services] of others) {
      expect([changed, cacheOf(await send(other, changed, {}, { services }))]).toEqual([changed, MISS]);
    }
    expect(cacheOf(await send(key, body, {}, { services: r1 }))).toEqual(HIT);
    const search = { model: 'fake-judge', query: 'Which?', documents: ['good 1'] };
    for (const path of ['/v1/rerank', '/v2/rerank']) {
      expect(cacheOf(await call(path, { key, body: search }))).toEqual(MISS);
    }
  });

  it('that was kept for a key which may name the model, when its own may not', async () => {
    const projectId = newId('project');
    const { body } = newBody();
    await send(await makeKey({ projectId }), body);
    const barred = await makeKey({ projectId, limits: { allowed_models: '["other"]' } });
    expect((await send(barred, body)).status).toBe(403);
  });
});

describe('a body that nests without end', () => {
  it('is refused like any other that is not valid', async () => {
    const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
    const body = `{"model":"fake","temperature":0,"messages":${deep}}`;
    expect((await send(await makeKey(), body)).status).toBe(400);
  });
});

describe('a cache that fails', () => {
  const ok = {
    keyOf: async () => ({ projectId: 'p', hash: newId('key') }),
    find: async () => undefined,
    keep: async () => {},
    forget: async () => {},
    erase: async () => {},
  };
  it.each([
    ['raises', { find: () => Promise.reject(new Error('secret')) }],
    ['hangs', { find: () => new Promise<undefined>(() => {}) }],
    ['keeps nothing', { keep: () => Promise.reject(new Error('secret')) }],
  ])('and %s costs no answer', async (_, fault) => {
    const { seed, body } = newBody();
    const services = { answerCache: { ...ok, ...fault } };
    const response = await send(await makeKey(), body, {}, { services });
    expect([response.status, ...cacheOf(response)]).toEqual([200, ...MISS]);
    expect(await response.text()).not.toContain('secret');
    expect(await runsOf(seed)).toBe(1);
  });
});

describe('an answer that was just kept', () => {
  const projectsOf = (read: () => Promise<unknown>) => ({ read }) as unknown as ProjectRegistry;
  it.each([
    ['stays while its project is there', async () => ({}), false],
    ['goes when its project is gone', async () => undefined, true],
    ['goes when nobody can say', () => Promise.reject(new Error('away')), true],
  ])('%s', async (_, read, goes) => {
    const { body } = newBody();
    const done: [act: string, hash: string][] = [];
    const hash = newId('key');
    const answerCache = {
      keyOf: async () => ({ projectId: 'p', hash }),
      find: async () => undefined,
      keep: async (key: CacheKey) => void done.push(['keep', key.hash]),
      forget: async (key: CacheKey) => void done.push(['forget', key.hash]),
      erase: async () => {},
    };
    const services = { answerCache, projects: projectsOf(read) };
    expect((await send(await makeKey(), body, {}, { services })).status).toBe(200);
    expect(done).toEqual([['keep', hash], ...(goes ? [['forget', hash]] : [])]);
  });
});
