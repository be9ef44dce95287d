// Usage on its way from a key's Durable Object to D1: nothing is lost or counted twice, whatever fails in between.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import { DurableObjectLedger, type Limits, type Use } from '../../../../functions/services/ledger';
import { D1UsageStore, DAY_MS, type UsageSum } from '../../../../functions/services/usage';
import { UsageTotals } from '../../../../functions/services/usage/totals';
import { bindings } from '../../../support/bindings';
import { makeUse } from '../../../support/use';

const ledger = new DurableObjectLedger(bindings.LEDGER, bindings.PROJECT_LEDGER);
const store = new D1UsageStore(bindings.DB);
const limits: Limits = { requestsPerMinute: 1e6, tokensPerMinute: 1e9, concurrency: 1000, budget: null };

async function makeProject(): Promise<string> {
  const id = newId('project');
  await bindings.DB.prepare('INSERT INTO projects (id, name, created_at_ms) VALUES (?, ?, ?)')
    .bind(id, 'usage', 0)
    .run();
  return id;
}

const useOf = (projectId: string, keyId: string, changes: Partial<Use> = {}): Use =>
  makeUse({ projectId, keyId, inputTokens: 3, cachedTokens: 1, outputTokens: 2, ...changes });

const sumsOf = (projectId: string, dimensions: ('endUser' | 'model')[] = []): Promise<UsageSum[]> =>
  store.sum(projectId, { fromMs: 0, toMs: 1e15, dimensions, limit: 1000 });

const today = Math.floor(Date.now() / DAY_MS) * DAY_MS;

describe('a key', () => {
  it('brings its totals to the database, once, also when it is asked twice', async () => {
    const projectId = await makeProject();
    const holder = { id: newId('key'), limits, projectId, projectBudget: null };
    const stub = bindings.LEDGER.getByName(holder.id);
    const use = useOf(projectId, holder.id);
    const most = { tokens: 50, micros: 40 };
    for (const id of ['a', 'b', 'c']) {
      await ledger.reserve(holder, { id, most, lifeMs: 60_000, use: { ...use, outputTokens: 47 } });
    }
    await ledger.settle(holder, 'a', { tokens: 5, micros: 4 }, use);
    await ledger.settle(holder, 'a', { tokens: 5, micros: 4 }, use);
    await ledger.settle(holder, 'b', { tokens: 0, micros: 0 }, null);
    await runDurableObjectAlarm(stub);
    const total = {
      dayMs: today,
      keyId: null,
      model: null,
      endUser: null,
      operation: null,
      exit: null,
      requests: 1,
      inputTokens: 3,
      cachedTokens: 1,
      outputTokens: 2,
      costMicros: 4,
    };
    expect(await sumsOf(projectId)).toEqual([total]);
    await ledger.settle(holder, 'c', { tokens: 5, micros: 4 }, use);
    await runInDurableObject(stub, async (object) => {
      await object.alarm();
      await object.alarm();
    });
    const twice = { requests: 2, inputTokens: 6, cachedTokens: 2, outputTokens: 4, costMicros: 8 };
    expect(await sumsOf(projectId)).toEqual([{ ...total, ...twice }]);
  });

  it('counts what a dead Worker reserved, and survives a restart before the database knows', async () => {
    const projectId = await makeProject();
    const holder = { id: newId('key'), limits, projectId, projectBudget: null };
    const use = useOf(projectId, holder.id, { outputTokens: 47 });
    await ledger.reserve(holder, { id: 'a', most: { tokens: 50, micros: 40 }, lifeMs: 20, use });
    await new Promise((resolve) => setTimeout(resolve, 30));
    const other = { ...use, model: 'other' };
    await ledger.reserve(holder, { id: 'b', most: { tokens: 1, micros: 1 }, lifeMs: 60_000, use: other });
    await evictDurableObject(bindings.LEDGER.getByName(holder.id));
    await runDurableObjectAlarm(bindings.LEDGER.getByName(holder.id));
    expect(await sumsOf(projectId, ['model'])).toMatchObject([
      { model: 'fake', requests: 1, outputTokens: 47, costMicros: 40 },
    ]);
  });

  it('whose project was deleted has nothing to write down', async () => {
    const projectId = newId('project');
    const keyId = newId('key');
    await runInDurableObject(bindings.LEDGER.getByName(keyId), async (object, { storage }) => {
      const totals = new UsageTotals(storage.sql);
      totals.add({ requests: 1, use: useOf(projectId, keyId), dayMs: today, micros: 1 });
      await object.alarm();
      expect(totals.unflushed(1)).toEqual([]);
    });
    expect(await sumsOf(projectId)).toEqual([]);
  });

  it('keeps what the database did not take until it does', async () => {
    const [projectId, keyId] = [await makeProject(), newId('key')];
    const rename = (from: string, to: string) =>
      bindings.DB.prepare(`ALTER TABLE ${from} RENAME TO ${to}`).run();
    await runInDurableObject(bindings.LEDGER.getByName(keyId), async (object, { storage }) => {
      const totals = new UsageTotals(storage.sql);
      totals.add({ requests: 1, use: useOf(projectId, keyId), dayMs: today, micros: 1 });
      await rename('usage_days', 'usage_days_away');
      const failure: unknown = await object.alarm().catch((error: unknown) => error);
      await rename('usage_days_away', 'usage_days');
      expect(String(failure)).toContain('no such table');
      expect(totals.unflushed(1)).toHaveLength(1);
      await object.alarm();
      expect(totals.unflushed(1)).toEqual([]);
    });
    expect(await sumsOf(projectId)).toMatchObject([{ requests: 1, costMicros: 1 }]);
  });

  it('needs several batches for many end users', async () => {
    const projectId = await makeProject();
    const keyId = newId('key');
    const stub = bindings.LEDGER.getByName(keyId);
    await runInDurableObject(stub, async (object, { storage }) => {
      const totals = new UsageTotals(storage.sql);
      for (let user = 0; user < 150; user++) {
        totals.add({
          requests: 1,
          use: useOf(projectId, keyId, { endUser: `u${user}` }),
          dayMs: today,
          micros: 1,
        });
      }
      await object.alarm();
      expect(totals.unflushed(1000)).toHaveLength(50);
      expect(await storage.getAlarm()).not.toBeNull();
      await object.alarm();
      expect(totals.unflushed(1000)).toEqual([]);
    });
    expect(await sumsOf(projectId)).toMatchObject([{ requests: 150, costMicros: 150 }]);
    expect(await sumsOf(projectId, ['endUser'])).toHaveLength(150);
  });
});

type Step =
  | { do: 'add'; day: number; user: string; tokens: number }
  | { do: 'flush'; fails: boolean; addsInBetween: boolean }
  | { do: 'forget' };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constant('add' as const),
        day: fc.nat({ max: 3 }),
        user: fc.constantFrom('', 'ann', 'bob'),
        tokens: fc.nat({ max: 100 }),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant('flush' as const),
        fails: fc.boolean(),
        addsInBetween: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('forget' as const) }) },
  ),
  { minLength: 3, maxLength: 20 },
);

describe('in 30 random histories', () => {
  it('the database ends with the sum of all, whatever fails or comes in between', async () => {
    const stub = bindings.LEDGER.getByName(newId('key'));
    await runInDurableObject(stub, async (_, { storage }) => {
      const totals = new UsageTotals(storage.sql);
      await fc.assert(
        fc.asyncProperty(steps, async (history) => {
          storage.sql.exec('DELETE FROM usage');
          const [projectId, keyId] = [await makeProject(), newId('key')];
          const expected = new Map<string, { requests: number; tokens: number }>();
          // Nobody adds to a day that is over.
          let firstOpenDay = 0;
          const add = (day: number, endUser: string, tokens: number) => {
            const dayMs = Math.max(day, firstOpenDay) * DAY_MS;
            const use = useOf(projectId, keyId, { endUser, inputTokens: tokens });
            // One request, or several that ended together.
            const requests = 1 + (tokens % 3);
            totals.add({ requests, use, dayMs, micros: tokens * 2 });
            const sum = expected.get(`${dayMs} ${endUser}`) ?? { requests: 0, tokens: 0 };
            expected.set(`${dayMs} ${endUser}`, {
              requests: sum.requests + requests,
              tokens: sum.tokens + tokens,
            });
          };
          const flush = async (fails: boolean, addsInBetween: boolean) => {
            const rows = totals.unflushed(2);
            await store.write(rows);
            if (addsInBetween) add(0, 'ann', 7);
            // The write arrived and its acknowledgement did not.
            if (!fails) totals.markFlushed(rows);
          };
          for (const step of history) {
            if (step.do === 'add') add(step.day, step.user, step.tokens);
            if (step.do === 'flush') await flush(step.fails, step.addsInBetween);
            if (step.do === 'forget') {
              firstOpenDay += 1;
              totals.forgetBefore(firstOpenDay * DAY_MS);
            }
          }
          while (totals.unflushed(1).length > 0) await flush(false, false);
          const sums = await sumsOf(projectId, ['endUser']);
          const found = sums.map(({ dayMs, endUser, requests, inputTokens, costMicros }) => {
            expect(costMicros).toBe(inputTokens * 2);
            return [`${dayMs} ${endUser}`, { requests, tokens: inputTokens }] as const;
          });
          expect(new Map(found)).toEqual(expected);
        }),
        { numRuns: 30, seed: 20_261_124 },
      );
    });
  });
});
