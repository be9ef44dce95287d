// The real Durable Object: what it keeps through a restart, and that keys never share anything.
import { evictDurableObject } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import { DurableObjectLedger, type Limits } from '../../../../functions/services/ledger';
import { bindings } from '../../../support/bindings';
import { makeUse } from '../../../support/use';

const ledger = new DurableObjectLedger(bindings.LEDGER, bindings.PROJECT_LEDGER);

const limits: Limits = {
  requestsPerMinute: 100,
  tokensPerMinute: 1000,
  concurrency: 10,
  budget: { micros: 100, window: 'month', hard: true },
};

const use = makeUse({ projectId: 'prj_none', keyId: 'key_none', inputTokens: 10 });

const makeHolder = () => ({ id: newId('key'), limits, projectId: 'prj_none', projectBudget: null });
const claim = (id: string, micros: number, lifeMs = 60_000) => ({
  id,
  most: { tokens: 10, micros },
  lifeMs,
  use,
});

describe('a restart', () => {
  it('in the middle of a reservation forgets nothing', async () => {
    const holder = makeHolder();
    await ledger.reserve(holder, claim('a', 60));
    await ledger.reserve(holder, claim('b', 30));
    await ledger.settle(holder, 'b', { tokens: 5, micros: 20 }, null);
    await evictDurableObject(bindings.LEDGER.getByName(holder.id));
    const { budget, concurrency } = await ledger.read(holder);
    expect([budget?.settledMicros, budget?.reservedMicros, concurrency.running]).toEqual([20, 60, 1]);
    expect((await ledger.reserve(holder, claim('c', 21))).refusal?.limit).toBe('budget');
    await ledger.settle(holder, 'a', { tokens: 5, micros: 50 }, null);
    await evictDurableObject(bindings.LEDGER.getByName(holder.id));
    const after = await ledger.read(holder);
    expect(after.budget).toMatchObject({ settledMicros: 70, reservedMicros: 0 });
    expect((await ledger.reserve(holder, claim('c', 30))).refusal).toBeNull();
  });

  it('settles in full what nobody settled before its deadline', async () => {
    const holder = makeHolder();
    await ledger.reserve(holder, claim('a', 60, 50));
    await evictDurableObject(bindings.LEDGER.getByName(holder.id));
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect((await ledger.read(holder)).budget).toMatchObject({ settledMicros: 60, reservedMicros: 0 });
    await ledger.settle(holder, 'a', { tokens: 0, micros: 0 }, null);
    expect((await ledger.read(holder)).budget).toMatchObject({ settledMicros: 60 });
  });
});

describe('keys', () => {
  it('never see each other', async () => {
    const [one, other] = [makeHolder(), makeHolder()];
    await ledger.reserve(one, claim('a', 100));
    expect((await ledger.reserve(one, claim('b', 1))).refusal?.limit).toBe('budget');
    expect((await ledger.reserve(other, claim('a', 100))).refusal).toBeNull();
    await ledger.settle(other, 'a', { tokens: 0, micros: 0 }, null);
    expect((await ledger.read(one)).budget).toMatchObject({ reservedMicros: 100 });
  });
});

describe('limits', () => {
  it('are those of the call, so that a change in the database holds at once', async () => {
    const holder = makeHolder();
    await ledger.reserve(holder, claim('a', 100));
    const raised = { ...holder, limits: { ...limits, budget: { ...limits.budget!, micros: 150 } } };
    expect((await ledger.reserve(raised, claim('b', 50))).refusal).toBeNull();
    const lowered = { ...holder, limits: { ...limits, tokensPerMinute: 5, budget: null } };
    expect((await ledger.read(lowered)).tokens).toMatchObject({ limit: 5, remaining: 5 });
  });
});
