// Requests with an idempotency key that do not come to their end, or whose caller does not wait for it.
import { describe, expect, it } from 'vitest';
import { budgetOf, chatBody, eventually, makeKey, newBody, runsOf } from '../../support/harness';
import { keptObjects, repeatOf, send } from '../../support/idempotent';

describe('a stream', () => {
  it.each(['cut', 'end-without-done', 'error-event', 'garbage'])(
    'that failed frees the key (%s)',
    async (model) => {
      const key = await makeKey();
      const { seed, body } = newBody({ model, stream: true });
      await (await send(key, body, 'k')).text();
      const free = async () => {
        await (await send(key, body, 'k')).text();
        return (await runsOf(seed)) === 2;
      };
      expect(await eventually(free, 10_000)).toBe(true);
      expect(await keptObjects(key)).toEqual([]);
    },
  );

  it('that nobody ends frees the key when its caller has been gone for a while', async () => {
    const key = await makeKey();
    const { body } = newBody({ model: 'silent', stream: true });
    const response = await send(key, body, 'k', { services: { patienceMs: 300 } });
    const reader = response.body!.getReader();
    await reader.read();
    expect((await send(key, body, 'k')).status).toBe(409);
    await reader.cancel();
    expect((await send(key, body, 'k')).status).toBe(409);
    const other = newBody();
    expect(await eventually(async () => (await send(key, other.body, 'k')).status === 200, 10_000)).toBe(
      true,
    );
  });
});

describe('a caller who leaves and comes back', () => {
  const budget = { limits: { budget_micros: 1e9 } };
  const leaveBeforeTheAnswer = async (key: string, body: unknown, seed: number) => {
    const caller = new AbortController();
    const first = send(key, body, 'k', { signal: caller.signal });
    expect(await eventually(async () => (await runsOf(seed)) === 1, 10_000)).toBe(true);
    caller.abort();
    await first.catch(() => {});
  };

  it('gets the answer that was being made, which ran once and is paid once', async () => {
    const key = await makeKey(budget);
    const { seed, body } = newBody({ model: 'slow' });
    await leaveBeforeTheAnswer(key, body, seed);
    const again = await repeatOf(key, body, 'k');
    expect([again.status, again.headers.get('idempotent-replayed')]).toEqual([200, 'true']);
    expect((await again.json<{ choices: unknown[] }>()).choices).toHaveLength(1);
    expect([await runsOf(seed), (await budgetOf(key)).settled_micros]).toEqual([1, 11]);
  });

  it.each(['quiet', 'bytewise'])('gets the stream from its beginning to its end (%s)', async (model) => {
    const key = await makeKey(budget);
    const { seed, body } = newBody({ model, stream: true });
    const caller = new AbortController();
    const response = await send(key, body, 'k', { signal: caller.signal });
    const reader = response.body!.getReader();
    const begun = new TextDecoder().decode((await reader.read()).value);
    caller.abort();
    await reader.cancel();
    const again = await repeatOf(key, body, 'k');
    const text = await again.text();
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(text.startsWith(begun)).toBe(true);
    expect(text.trimEnd().endsWith('data: [DONE]')).toBe(true);
    expect([await runsOf(seed), (await budgetOf(key)).settled_micros]).toEqual([1, 11]);
  });

  it('before the stream has begun finds it all the same', async () => {
    const key = await makeKey(budget);
    const { seed, body } = newBody({ model: 'slow', stream: true });
    await leaveBeforeTheAnswer(key, body, seed);
    const again = await repeatOf(key, body, 'k');
    expect((await again.text()).trimEnd().endsWith('data: [DONE]')).toBe(true);
    expect([await runsOf(seed), (await budgetOf(key)).settled_micros]).toEqual([1, 11]);
  });
});

describe('a request that fails', () => {
  it.each(['overloaded', 'detail', 'reset', 'missing'])(
    'in the backend frees the key (%s)',
    async (model) => {
      const key = await makeKey();
      const { seed, body } = newBody({ model });
      for (const numRuns of [1, 2]) {
        expect((await send(key, body, 'k')).headers.has('idempotent-replayed')).toBe(false);
        expect(await runsOf(seed)).toBe(numRuns);
      }
      expect((await send(key, newBody().body, 'k')).status).toBe(200);
    },
  );

  it('over its limits frees the key', async () => {
    const key = await makeKey({ limits: { budget_micros: 320 } });
    expect((await send(key, chatBody({ max_tokens: 50 }), 'k')).status).toBe(429);
    expect((await send(key, newBody().body, 'k')).status).toBe(200);
  });

  it('over its parameters frees the key', async () => {
    const key = await makeKey();
    expect((await send(key, chatBody({ temperature: 9 }), 'k')).status).toBe(400);
    expect((await send(key, newBody().body, 'k')).status).toBe(200);
  });

  it('because nobody knows whether it ran before is refused, not let through', async () => {
    const idempotency = { claim: () => Promise.reject(new Error('away')) };
    const { seed, body } = newBody();
    const response = await send(await makeKey(), body, 'k', {
      services: { idempotency: idempotency as never },
    });
    expect([response.status, await runsOf(seed)]).toEqual([500, 0]);
  });

  it('survives bodies deeper than the stack', async () => {
    const deep = `{"model":"fake","messages":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
    expect((await send(await makeKey(), deep, 'k')).status).toBe(400);
  });
});
