// Requests with an idempotency key through the whole app: what runs once, what runs again, and what a repeat is told.
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import { bindings } from '../../support/bindings';
import {
  budgetOf,
  call,
  chatBody,
  errorOf,
  eventually,
  ledgerOf,
  makeKey,
  newBody,
  runsOf,
} from '../../support/harness';
import { keptObjects, repeatOf, send } from '../../support/idempotent';

/** For requests that are to run although they were answered before. */
const withoutCache = (idempotencyKey: string) => ({
  headers: { 'idempotency-key': idempotencyKey, 'cache-control': 'no-store' },
});

describe('400', () => {
  it.each([['', 'empty'] as const, ['a b', 'with a space'], ['é', 'not ASCII'], ['k'.repeat(256), 'long']])(
    'for the key %j (%s), before anything runs',
    async (idempotencyKey) => {
      const { seed, body } = newBody();
      const response = await send(await makeKey(), body, idempotencyKey);
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({ code: 'invalid_value', param: 'Idempotency-Key' });
      expect(await runsOf(seed)).toBe(0);
    },
  );

  it('is not for a key of 255 characters', async () => {
    expect((await send(await makeKey(), newBody().body, '~'.repeat(255))).status).toBe(200);
  });
});

describe('a repeat', () => {
  it('gets the first answer again, runs nothing, costs nothing, and counts as a request', async () => {
    const key = await makeKey({ limits: { requests_per_minute: 2, budget_micros: 1e9 } });
    const { seed, body } = newBody();
    const first = await send(key, body, 'once');
    expect(first.headers.has('idempotent-replayed')).toBe(false);
    const spent = (await budgetOf(key)).settled_micros;
    expect(spent).toBeGreaterThan(0);
    // The same values in another order and spacing are the same body.
    const shuffled = JSON.stringify(Object.fromEntries(Object.entries(body).reverse()), null, 2);
    const again = await send(key, shuffled, 'once');
    expect([first.status, again.status]).toEqual([200, 200]);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(again.headers.get('content-type')).toBe(first.headers.get('content-type'));
    expect(again.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'));
    expect(again.headers.get('x-ratelimit-remaining-requests')).toBe('0');
    expect(await again.text()).toBe(await first.text());
    expect(await runsOf(seed)).toBe(1);
    expect((await budgetOf(key)).settled_micros).toBe(spent);
  });

  it('of a tokenization works the same', async () => {
    const key = await makeKey();
    const options = { key, body: { model: 'fake', text: 'a' }, headers: { 'idempotency-key': 'k' } };
    const first = await call('/v1/tokenize', options);
    const again = await call('/v1/tokenize', options);
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(await again.json()).toEqual(await first.json());
  });

  it('is refused where the minute has no request left', async () => {
    const key = await makeKey({ limits: { requests_per_minute: 1 } });
    const { body } = newBody();
    expect((await send(key, body, 'k')).status).toBe(200);
    const again = await send(key, body, 'k');
    expect(again.status).toBe(429);
    expect((await errorOf(again)).code).toBe('rate_limit_exceeded');
    expect(again.headers.get('x-ratelimit-remaining-requests')).toBe('0');
  });

  it('needs neither budget nor a free place', async () => {
    const key = await makeKey({ limits: { budget_micros: 400, concurrency: 1 } });
    const { body } = newBody();
    // 311 of 400 can be reserved once; 11 are spent, so it fits again, and a larger one does not.
    expect((await send(key, body, 'k')).status).toBe(200);
    expect((await send(key, chatBody({ max_tokens: 50 }), 'other')).status).toBe(429);
    expect((await repeatOf(key, body, 'k')).status).toBe(200);
  });

  it('of another API key, also of the same project, is a request of its own', async () => {
    const projectId = 'prj_idempotency';
    const { seed, body } = newBody();
    for (const key of [await makeKey({ projectId }), await makeKey({ projectId }), await makeKey()]) {
      const response = await send(key, body, 'the-same-for-all', withoutCache('the-same-for-all'));
      expect([response.status, response.headers.has('idempotent-replayed')]).toEqual([200, false]);
    }
    expect(await runsOf(seed)).toBe(3);
  });

  it('runs again when a day has passed, and what was kept is gone', async () => {
    const key = await makeKey();
    const { seed, body } = newBody();
    await send(key, body, 'k');
    const [old] = await keptObjects(key);
    const ledger = await ledgerOf(key);
    await runInDurableObject(ledger, (_, { storage }) => {
      const { until } = storage.sql
        .exec<{ until: number }>('SELECT until_ms AS until FROM idempotency')
        .one();
      const hours = (until - Date.now()) / 3_600_000;
      expect([hours > 23.9, hours <= 24]).toEqual([true, true]);
      storage.sql.exec('UPDATE idempotency SET until_ms = ?', Date.now());
    });
    const again = await send(key, body, 'k', withoutCache('k'));
    expect(again.headers.has('idempotent-replayed')).toBe(false);
    expect(await runsOf(seed)).toBe(2);
    await runDurableObjectAlarm(ledger);
    const left = await keptObjects(key);
    expect(left).toHaveLength(1);
    expect(left).not.toContain(old);
    expect((await repeatOf(key, body, 'k')).headers.get('idempotent-replayed')).toBe('true');
    expect(await runsOf(seed)).toBe(2);
  });
});

describe('409', () => {
  it('for another body or path is not worth a retry', async () => {
    const key = await makeKey();
    const { body } = newBody();
    await send(key, body, 'k');
    const other = newBody();
    const headers = { 'idempotency-key': 'k' };
    for (const response of [
      await send(key, other.body, 'k'),
      await call('/v1/tokenize', { key, body, headers }),
      await call('/v1/chat/completions?a=b', { key, body, headers }),
    ]) {
      expect(response.status).toBe(409);
      expect(response.headers.get('x-should-retry')).toBe('false');
      expect(response.headers.has('retry-after')).toBe(false);
      expect(await errorOf(response)).toMatchObject({
        code: 'idempotency_key_conflict',
        type: 'conflict_error',
        param: 'Idempotency-Key',
      });
    }
    expect(await runsOf(other.seed)).toBe(0);
  });

  it('for a request that is still running says when to come back; the key is free when it is given up', async () => {
    const key = await makeKey();
    const { seed, body } = newBody({ model: 'hang' });
    const caller = new AbortController();
    const services = { patienceMs: 300 };
    const first = send(key, body, 'k', { signal: caller.signal, services });
    expect(await eventually(async () => (await runsOf(seed)) === 1, 10_000)).toBe(true);
    const response = await send(key, body, 'k');
    expect(response.status).toBe(409);
    expect(response.headers.get('x-should-retry')).toBe('true');
    expect(Number(response.headers.get('retry-after-ms'))).toBeGreaterThanOrEqual(1000);
    expect(response.headers.get('retry-after')).toMatch(/^[12]$/);
    expect((await errorOf(response)).code).toBe('idempotency_request_in_progress');
    caller.abort();
    expect((await errorOf(await send(key, body, 'k'))).code).toBe('idempotency_request_in_progress');
    await first;
    const again = newBody();
    expect((await send(key, again.body, 'k')).status).toBe(200);
  });

  it('for an answer that was too long to keep', async () => {
    const key = await makeKey();
    const { seed, body } = newBody({ model: 'long' });
    expect((await send(key, body, 'k')).status).toBe(200);
    const again = await send(key, body, 'k');
    expect(again.status).toBe(409);
    expect(again.headers.get('x-should-retry')).toBe('false');
    expect((await errorOf(again)).code).toBe('idempotency_replay_unavailable');
    expect([await runsOf(seed), await keptObjects(key)]).toEqual([1, []]);
  });

  it('for an answer whose body is gone', async () => {
    const key = await makeKey();
    const { body } = newBody();
    await send(key, body, 'k');
    await bindings.STORE.delete(await keptObjects(key));
    expect((await errorOf(await send(key, body, 'k'))).code).toBe('idempotency_replay_unavailable');
  });
});

describe('two requests at once', () => {
  it.each([false, true])('with the same key run once (stream: %s)', async (stream) => {
    const key = await makeKey();
    const { seed, body } = newBody({ stream });
    const answers = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const response = await send(key, body, 'k');
        return { status: response.status, text: await response.text() };
      }),
    );
    const given = answers.filter(({ status }) => status === 200);
    expect(given.length).toBeGreaterThanOrEqual(1);
    expect(new Set(given.map(({ text }) => text)).size).toBe(1);
    for (const { status } of answers) expect([200, 409]).toContain(status);
    expect(await runsOf(seed)).toBe(1);
  });
});

describe('a stream', () => {
  it.each(['fake', 'quiet', 'bytewise', 'tools'])('comes again byte for byte (%s)', async (model) => {
    const key = await makeKey({ limits: { budget_micros: 1e9 } });
    const stream_options = { include_usage: true };
    const { seed, body } = newBody({ model, stream: true, stream_options });
    const services = { keepAliveMs: 200 };
    const first = await send(key, body, 'k', { services });
    const bytes = new Uint8Array(await first.arrayBuffer());
    const again = await repeatOf(key, body, 'k');
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    for (const name of ['content-type', 'cache-control', 'x-accel-buffering']) {
      expect(again.headers.get(name)).toBe(first.headers.get(name));
    }
    expect(new Uint8Array(await again.arrayBuffer())).toEqual(bytes);
    expect(new TextDecoder().decode(bytes).trimEnd().endsWith('data: [DONE]')).toBe(true);
    expect(await runsOf(seed)).toBe(1);
    expect((await budgetOf(key)).settled_micros).toBe(11);
  });
});

describe('a key with zero data retention', () => {
  const makeSilentKey = () => makeKey({ limits: { zero_data_retention: 1 } });

  it.each([false, true])('keeps that there was an answer, not what it said (stream: %s)', async (stream) => {
    const key = await makeSilentKey();
    const { seed, body } = newBody({ stream });
    const first = await send(key, body, 'k');
    expect(first.headers.get('x-data-retention')).toBe('none');
    await first.text();
    const again = await repeatOf(key, body, 'k');
    expect(again.status).toBe(409);
    expect(again.headers.get('x-should-retry')).toBe('false');
    const error = await errorOf(again);
    expect(error.code).toBe('idempotency_replay_unavailable');
    expect(error.message).toContain('200');
    expect(await keptObjects(key)).toEqual([]);
    expect(await runsOf(seed)).toBe(1);
    expect((await errorOf(await send(key, newBody().body, 'k'))).code).toBe('idempotency_key_conflict');
  });

  it('stores no answer', async () => {
    const response = await send(await makeSilentKey(), chatBody({ store: true }), 'k');
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code: 'unsupported_value', param: 'store' });
  });
});

describe('x-data-retention', () => {
  it('says how long an answer is kept', async () => {
    const key = await makeKey();
    const spans = [
      await call('/v1/chat/completions', { key, body: newBody().body }),
      await send(key, newBody().body, 'a'),
      await send(key, newBody({ store: true }).body, 'b'),
      await call('/v1/chat/completions', { key, body: newBody({ store: true, stream: true }).body }),
    ].map(({ headers }) => headers.get('x-data-retention'));
    expect(spans).toEqual(['1h', '24h', '30d', '30d']);
  });
});
