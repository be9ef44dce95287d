// The records of idempotency keys in a real Durable Object: crashes, restarts, late words, and random histories.
import { evictDurableObject, runInDurableObject } from 'cloudflare:test';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import { LedgerIdempotencyStore } from '../../../../functions/services/idempotency';
import { IdempotencyRecords } from '../../../../functions/services/idempotency/records';
import type { Limits } from '../../../../functions/services/ledger';
import { bindings } from '../../../support/bindings';

const store = new LedgerIdempotencyStore(bindings.LEDGER, bindings.STORE);
const limits: Limits = { requestsPerMinute: 100, tokensPerMinute: 1, concurrency: 1, budget: null };
const makeHolder = () => ({ id: newId('key'), projectId: 'prj_records', limits, projectBudget: null });
const LIFE_MS = 60_000;
const claim = (requestId: string) => ({
  idempotencyKey: 'k',
  fingerprint: 'f',
  requestId,
  lifeMs: LIFE_MS,
});
const head = { status: 200, headers: { 'content-type': 'text/plain' } };
const body = new TextEncoder().encode('answer');

describe('a crash', () => {
  it('of the Worker frees the key after the deadline, and a late answer is not kept', async () => {
    const holder = makeHolder();
    const stub = bindings.LEDGER.getByName(holder.id);
    const kind = async (requestId: string) => (await store.claim(holder, claim(requestId))).outcome.kind;
    expect(await kind('a')).toBe('run');
    expect(await kind('b')).toBe('running');
    await evictDurableObject(stub);
    await runInDurableObject(stub, (_, { storage }) => {
      const { until } = storage.sql
        .exec<{ until: number }>('SELECT until_ms AS until FROM idempotency')
        .one();
      expect(until - Date.now()).toBeLessThanOrEqual(LIFE_MS);
      storage.sql.exec('UPDATE idempotency SET until_ms = ?', Date.now());
    });
    expect(await kind('c')).toBe('run');
    await store.keep(holder, 'a', head, body);
    expect(await kind('d')).toBe('running');
    const { objects } = await bindings.STORE.list({ prefix: `idempotency/prj_records/${holder.id}/` });
    expect(objects).toEqual([]);
  });

  it('of the object forgets neither claims nor answers', async () => {
    const holder = makeHolder();
    await store.claim(holder, claim('a'));
    await evictDurableObject(bindings.LEDGER.getByName(holder.id));
    expect((await store.claim(holder, claim('b'))).outcome.kind).toBe('running');
    await store.keep(holder, 'a', head, body);
    await evictDurableObject(bindings.LEDGER.getByName(holder.id));
    const { outcome } = await store.claim(holder, claim('c'));
    const objectKey = `idempotency/prj_records/${holder.id}/a`;
    expect(outcome).toEqual({ kind: 'answered', answer: { ...head, objectKey } });
    expect(await new Response(await store.readBody(objectKey)).text()).toBe('answer');
  });

  it('of the bucket keeps that there was an answer', async () => {
    const bucket = { put: () => Promise.reject(new Error('away')) } as unknown as R2Bucket;
    const broken = new LedgerIdempotencyStore(bindings.LEDGER, bucket);
    const holder = makeHolder();
    await broken.claim(holder, claim('a'));
    await broken.keep(holder, 'a', head, body);
    const { outcome } = await store.claim(holder, claim('b'));
    expect(outcome).toEqual({ kind: 'answered', answer: { status: 200, headers: {}, objectKey: null } });
  });
});

describe('a release', () => {
  it('frees the key, and never takes an answer away', async () => {
    const holder = makeHolder();
    await store.claim(holder, claim('a'));
    await store.release(holder, 'a');
    expect((await store.claim(holder, claim('b'))).outcome.kind).toBe('run');
    await store.keep(holder, 'b', head, null);
    await store.release(holder, 'b');
    expect((await store.claim(holder, claim('c'))).outcome.kind).toBe('answered');
  });
});

const KEPT_MS = 24 * 60 * 60 * 1000;
const claims = fc.record({
  do: fc.constant('claim' as const),
  key: fc.constantFrom('k1', 'k2'),
  fingerprint: fc.constantFrom('f1', 'f1', 'f2'),
  lifeMs: fc.integer({ min: 1, max: 100 }),
});
const step = fc.oneof(
  claims,
  claims,
  claims,
  fc.record({ do: fc.constantFrom('keep' as const, 'keep' as const, 'release' as const), which: fc.nat() }),
  fc.record({ do: fc.constantFrom('keep' as const, 'release' as const), which: fc.nat() }),
  fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 30, 100, KEPT_MS - 1, KEPT_MS) }),
  fc.record({ do: fc.constant('clean' as const) }),
);

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A claim that was granted, as a plain record that nobody ever takes away. */
interface Granted {
  id: string;
  key: string;
  fingerprint: string;
  untilMs: number;
  state: 'running' | 'answered' | 'released';
}

describe('in 300 random histories', () => {
  it('a key has one live owner at most, and every repeat is told the truth', async () => {
    const stub = bindings.LEDGER.getByName(newId('key'));
    const seen: Record<string, number> = {};
    await runInDurableObject(stub, (_, { storage }) => {
      const check = (history: Step[]) => {
        storage.sql.exec('DELETE FROM idempotency');
        const records = new IdempotencyRecords(storage.sql);
        const granted: Granted[] = [];
        let nowMs = 1000;
        for (const [at, action] of history.entries()) {
          const live = granted.filter(({ state, untilMs }) => state !== 'released' && untilMs > nowMs);
          if (action.do === 'wait') nowMs += action.ms;
          if (action.do === 'clean') {
            const expired = records.expired(nowMs, 1000);
            const ids = granted.filter(({ state, untilMs }) => state !== 'released' && untilMs <= nowMs);
            for (const name of expired) expect(ids.map(({ id }) => id)).toContain(name);
            records.forget(expired);
            expect(records.expired(nowMs, 1000)).toEqual([]);
            expect(storage.sql.exec('SELECT * FROM idempotency').toArray()).toHaveLength(live.length);
          }
          if (action.do === 'claim') {
            const { key, fingerprint, lifeMs } = action;
            const id = `r${at}`;
            const owner = live.find((candidate) => candidate.key === key);
            const { kind } = records.claim(
              { idempotencyKey: key, fingerprint, requestId: id, objectKey: id, lifeMs },
              nowMs,
            );
            seen[kind] = (seen[kind] ?? 0) + 1;
            if (owner === undefined) expect(kind).toBe('run');
            else if (owner.fingerprint !== fingerprint) expect(kind).toBe('conflict');
            else expect(kind).toBe(owner.state);
            if (kind === 'run') {
              granted.push({ id, key, fingerprint, untilMs: nowMs + lifeMs, state: 'running' });
            }
          }
          if ((action.do === 'keep' || action.do === 'release') && granted.length > 0) {
            const claimed = granted[action.which % granted.length]!;
            const isLive = live.includes(claimed);
            if (action.do === 'keep') {
              expect(records.keep(claimed.id, { ...head, objectKey: claimed.id }, nowMs)).toBe(isLive);
              if (isLive) Object.assign(claimed, { state: 'answered', untilMs: nowMs + KEPT_MS });
            } else {
              records.release(claimed.id);
              if (claimed.state === 'running') claimed.state = 'released';
            }
          }
        }
      };
      fc.assert(fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), check), {
        numRuns: 300,
        seed: 20_261_124,
      });
    });
    for (const kind of ['run', 'running', 'conflict', 'answered']) {
      expect([kind, seen[kind]! > 50]).toEqual([kind, true]);
    }
  });
});
