// What the ledger's alarm does for a key that nobody uses again: what a dead Worker reserved is charged, written down and warned of.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { afterEach, beforeEach, describe, expect, it, vi, type MockInstance } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import { sleep } from '../../../../functions/lib/time';
import { DurableObjectLedger, type Limits } from '../../../../functions/services/ledger';
import type { Account, Reservation } from '../../../../functions/services/ledger/accounting';
import { D1UsageStore } from '../../../../functions/services/usage';
import { bindings } from '../../../support/bindings';
import { eventually } from '../../../support/harness';
import { makeUse } from '../../../support/use';

const ledger = new DurableObjectLedger(bindings.LEDGER, bindings.PROJECT_LEDGER);

const LIMITS: Limits = {
  requestsPerMinute: 1000,
  tokensPerMinute: 100_000,
  concurrency: 100,
  budget: { micros: 100, window: 'month', hard: true },
};
const LIFE_MS = 60_000;

/** A key of a project of its own, and a claim of 60 millionths. */
async function makeKey() {
  const [id, projectId] = [newId('key'), newId('project')];
  await bindings.DB.prepare('INSERT INTO projects (id, name, created_at_ms) VALUES (?, ?, ?)')
    .bind(projectId, 'alarms', 0)
    .run();
  const use = makeUse({ projectId, keyId: id, inputTokens: 10, outputTokens: 4 });
  const claim = (name: string, lifeMs = LIFE_MS) => ({
    id: name,
    most: { tokens: 14, micros: 60 },
    lifeMs,
    use,
  });
  return { holder: { id, limits: LIMITS, projectId, projectBudget: null }, claim };
}

const stubOf = ({ id }: { id: string }) => bindings.LEDGER.getByName(id);
const plannedMs = (key: { id: string }) =>
  runInDurableObject(stubOf(key), (_, { storage }) => storage.getAlarm());

/** What the disk says, without a call that would settle anything. */
const kept = (key: { id: string }) =>
  runInDurableObject(stubOf(key), (_, { storage }) => ({
    settled: storage.kv.get<Account>('account')?.spent.month.micros,
    open: [...storage.kv.list({ prefix: 'reservation:' })].length,
  }));

async function usageOf({ projectId }: { projectId: string }) {
  const query = { fromMs: 0, toMs: 1e15, dimensions: [], limit: 10 };
  return new D1UsageStore(bindings.DB).sum(projectId, query);
}

const isWritten = (key: { projectId: string }) =>
  eventually(async () => (await usageOf(key)).length > 0, 8000);

let warn: MockInstance<typeof console.warn>;
beforeEach(() => {
  warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
});
afterEach(() => {
  warn.mockRestore();
});

/** Budget alerts that name this key. */
const alertsOf = ({ id }: { id: string }) =>
  warn.mock.calls
    .map(([line]) => JSON.parse(String(line)) as { event?: string; holder?: string; percent?: number })
    .filter(({ event, holder }) => event === 'budget_alert' && holder === id)
    .map(({ percent }) => percent);

describe('a reservation whose Worker died, of a key that is never used again', () => {
  it('is charged, written down and warned of after its deadline, by itself and through a restart', async () => {
    const { holder, claim } = await makeKey();
    await ledger.reserve(holder, claim('a', 300));
    await evictDurableObject(stubOf(holder));
    expect(await isWritten(holder)).toBe(true);
    expect(await usageOf(holder)).toMatchObject([
      { requests: 1, inputTokens: 10, outputTokens: 4, costMicros: 60 },
    ]);
    expect(await kept(holder)).toEqual({ settled: 60, open: 0 });
    expect(alertsOf(holder)).toEqual([50]);
    expect(await plannedMs(holder)).toBeNull();
    const { budget, concurrency } = await ledger.read(holder);
    expect([budget?.settledMicros, budget?.reservedMicros, concurrency.running]).toEqual([60, 0, 0]);
    expect(alertsOf(holder)).toEqual([50]);
  });

  it('is charged by a read, which writes it down as well', async () => {
    const { holder, claim } = await makeKey();
    await ledger.reserve(holder, claim('a', 20));
    // As if an earlier version had reserved it, which planned nothing.
    await runInDurableObject(stubOf(holder), (_, { storage }) => storage.deleteAlarm());
    await evictDurableObject(stubOf(holder));
    await sleep(40);
    expect(await usageOf(holder)).toEqual([]);
    expect((await ledger.read(holder)).budget).toMatchObject({ settledMicros: 60, reservedMicros: 0 });
    expect(await isWritten(holder)).toBe(true);
    expect(await usageOf(holder)).toMatchObject([{ requests: 1, costMicros: 60 }]);
  });

  it('is charged also where the account of an earlier version does not know its budget', async () => {
    const { holder, claim } = await makeKey();
    await ledger.reserve(holder, claim('a', 300));
    await runInDurableObject(stubOf(holder), (_, { storage }) => {
      const { budget, ...account } = storage.kv.get<Account>('account')!;
      expect(budget).toEqual(LIMITS.budget);
      storage.kv.put('account', account);
    });
    await evictDurableObject(stubOf(holder));
    expect(await isWritten(holder)).toBe(true);
    expect(await kept(holder)).toEqual({ settled: 60, open: 0 });
    expect(alertsOf(holder)).toEqual([]);
    expect((await ledger.read(holder)).budget?.alertPercent).toBe(50);
  });
});

describe('a lease whose Worker died', () => {
  it('is charged in full, some seconds after its end', async () => {
    const { holder, claim } = await makeKey();
    const limits = { ...LIMITS, budget: { ...LIMITS.budget!, micros: 10_000 } };
    const wish = { requests: 8, slots: 8, tokens: 112, micros: 480 };
    const before = Date.now();
    const { grant } = await stubOf(holder).reserve(limits, claim('a'), wish);
    expect(grant?.share).toMatchObject({ micros: 540 });
    const atMs = (await plannedMs(holder))!;
    expect(atMs).toBeGreaterThanOrEqual(before + 10_000);
    expect(atMs).toBeLessThan(Date.now() + 11_000);
    await runInDurableObject(stubOf(holder), (_, { storage }) => {
      for (const [name, lease] of storage.kv.list<Reservation>({ prefix: 'reservation:' })) {
        storage.kv.put(name, { ...lease, untilMs: Date.now() });
      }
    });
    await evictDurableObject(stubOf(holder));
    expect(await runDurableObjectAlarm(stubOf(holder))).toBe(true);
    expect(await usageOf(holder)).toMatchObject([{ costMicros: 540 }]);
    expect(await kept(holder)).toEqual({ settled: 540, open: 0 });
  });
});

describe('the alarm', () => {
  it('is planned for the first deadline, then for the flush, then for what is still open, then not at all', async () => {
    const { holder, claim } = await makeKey();
    const untilOf = () =>
      runInDurableObject(
        stubOf(holder),
        (_, { storage }) => storage.kv.get<Reservation>('reservation:a')!.untilMs,
      );
    await ledger.reserve(holder, { ...claim('a'), most: { tokens: 1, micros: 1 } });
    expect(await plannedMs(holder)).toBe(await untilOf());
    await ledger.reserve(holder, { ...claim('b', 2 * LIFE_MS), most: { tokens: 1, micros: 1 } });
    expect(await plannedMs(holder)).toBe(await untilOf());
    await ledger.settle(holder, 'b', { tokens: 1, micros: 1 }, claim('b').use);
    expect(await plannedMs(holder)).toBeLessThanOrEqual(Date.now() + 1000);
    await runDurableObjectAlarm(stubOf(holder));
    expect(await plannedMs(holder)).toBe(await untilOf());
    await ledger.settle(holder, 'a', { tokens: 1, micros: 1 }, claim('a').use);
    await runDurableObjectAlarm(stubOf(holder));
    expect(await plannedMs(holder)).toBeNull();
    expect(await usageOf(holder)).toMatchObject([{ requests: 2, costMicros: 2 }]);
  });

  it('is not planned anew by each request', async () => {
    const { holder, claim } = await makeKey();
    const most = { tokens: 1, micros: 1 };
    const numPlanned = await runInDurableObject(stubOf(holder), async (object, { storage }) => {
      const planning = vi.spyOn(storage, 'setAlarm');
      for (let i = 0; i < 40; i++) {
        await object.reserve(LIMITS, { ...claim(`r${i}`), most });
        await object.settle(LIMITS, `r${i}`, most, claim('').use);
      }
      const count = planning.mock.calls.length;
      planning.mockRestore();
      return count;
    });
    expect(numPlanned).toBeGreaterThan(0);
    // Two: for the first deadline, and for the first flush. More where the machine is so slow that an alarm comes between.
    expect(numPlanned).toBeLessThan(10);
  });
});
