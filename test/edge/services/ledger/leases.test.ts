// Two Workers before one real Durable Object: how often they ask it, that its budget is spent to the last request, and what a restart and a lost call do.
import { evictDurableObject } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import { DurableObjectLedger, type Holder, type Limits } from '../../../../functions/services/ledger';
import { bindings } from '../../../support/bindings';
import { makeUse } from '../../../support/use';

const LIMITS: Limits = {
  requestsPerMinute: 60_000,
  tokensPerMinute: 1e8,
  concurrency: 1000,
  budget: { micros: 1e6, window: 'month', hard: true },
};

const USE = makeUse({ projectId: 'prj_none', keyId: 'key_none' });

type Call = 'reserve' | 'settle' | 'settleAll' | 'takeBack' | 'read';

/**
 * A Worker and what it asked the object.
 * @param fault may throw before a call arrives
 * @param lose may throw after it did
 */
function makeWorker(fault: (call: Call) => void = () => {}, lose: (call: Call) => void = () => {}) {
  const calls: Call[] = [];
  const keys = {
    getByName(name: string) {
      const stub = bindings.LEDGER.getByName(name);
      const counted =
        (call: Call) =>
        async (...args: unknown[]) => {
          calls.push(call);
          fault(call);
          const answer: unknown = await (stub[call] as (...all: unknown[]) => unknown)(...args);
          lose(call);
          return answer;
        };
      return {
        reserve: counted('reserve'),
        settle: counted('settle'),
        settleAll: counted('settleAll'),
        takeBack: counted('takeBack'),
        read: counted('read'),
      };
    },
  } as unknown as DurableObjectNamespace;
  const ledger = new DurableObjectLedger(keys, bindings.PROJECT_LEDGER);
  const background: Promise<void>[] = [];
  const run = async (holder: Holder, micros = 10, used = 1) => {
    const id = newId('request');
    const claim = { id, most: { tokens: 5, micros }, lifeMs: 60_000, use: USE };
    const { refusal, state } = await ledger.reserve(holder, claim, (work) => background.push(work));
    if (refusal === null) await ledger.settle(holder, id, { tokens: 1, micros: used }, USE);
    return { refusal, state, id };
  };
  /** Begins a request that passes by a lease; one that had to ask, on a slow machine, is settled and tried again. */
  const passBy = async (holder: Holder): Promise<string> => {
    for (let i = 0; i < 20; i++) {
      for (let j = 0; j < 3; j++) await run(holder, 10, 0);
      const [id, before] = [newId('request'), calls.length];
      const claim = { id, most: { tokens: 5, micros: 10 }, lifeMs: 60_000, use: USE };
      await ledger.reserve(holder, claim, (work) => background.push(work));
      if (calls.length === before) return id;
      await ledger.settle(holder, id, NOTHING, null);
    }
    throw new Error('no request passed by a lease');
  };
  return { ledger, calls, background, run, passBy };
}

const NOTHING = { tokens: 0, micros: 0 };

const makeHolder = (limits: Partial<Limits> = {}): Holder => ({
  id: newId('key'),
  limits: { ...LIMITS, ...limits },
  projectId: 'prj_none',
  projectBudget: null,
});

describe('a key that is used much', () => {
  it('passes most requests by without a call, and is never told that more is left than is', async () => {
    const { ledger, calls, run } = makeWorker();
    const holder = makeHolder();
    for (let i = 1; i <= 200; i++) {
      const { refusal, state } = await run(holder);
      expect(refusal).toBeNull();
      // What earlier requests used and this one may; what is lent and not used yet counts until it comes back.
      const { settledMicros = 0, reservedMicros = 0 } = state.budget ?? {};
      expect(settledMicros + reservedMicros).toBeGreaterThanOrEqual(i - 1 + 10);
      expect(state.concurrency.running).toBeGreaterThanOrEqual(1);
    }
    expect(calls.length).toBeLessThan(40);
    const state = await ledger.read(holder);
    expect(state.budget).toMatchObject({ settledMicros: 200, reservedMicros: 0 });
    expect(state.concurrency.running).toBe(0);
  });

  it('gives back in time what it does not use', async () => {
    const { calls, background, run } = makeWorker();
    const holder = makeHolder();
    for (let i = 0; i < 20; i++) await run(holder);
    await Promise.all(background);
    expect(calls).toContain('takeBack');
    const { budget, concurrency } = await bindings.LEDGER.getByName(holder.id).read(holder.limits);
    expect([budget?.settledMicros, budget?.reservedMicros, concurrency.running]).toEqual([20, 0, 0]);
  });
});

describe('requests that come together', () => {
  it('ask once for all of them, however many they are', async () => {
    const { ledger, calls, background } = makeWorker();
    const holder = makeHolder({ concurrency: 4000 });
    const ids = Array.from({ length: 300 }, () => newId('request'));
    const answers = await Promise.all(
      ids.map((id) => {
        const claim = { id, most: { tokens: 5, micros: 10 }, lifeMs: 60_000, use: USE };
        return ledger.reserve(holder, claim, (work) => background.push(work));
      }),
    );
    expect(answers.filter(({ refusal }) => refusal !== null)).toEqual([]);
    expect(calls.filter((call) => call === 'reserve').length).toBeLessThan(30);
    const { concurrency, budget } = await ledger.read(holder);
    expect([concurrency.running, budget?.reservedMicros]).toEqual([300, 3000]);
    await Promise.all(ids.map((id) => ledger.settle(holder, id, { tokens: 1, micros: 4 }, USE)));
    await Promise.all(background);
    const state = await bindings.LEDGER.getByName(holder.id).read(holder.limits);
    expect([state.concurrency.running, state.budget?.settledMicros]).toEqual([0, 1200]);
  });

  it('do not wait for one another near a limit, where nothing is lent', async () => {
    const { ledger, calls, background } = makeWorker();
    const holder = makeHolder({ concurrency: 20 });
    const reserve = () => {
      const claim = { id: newId('request'), most: { tokens: 5, micros: 10 }, lifeMs: 60_000, use: USE };
      return ledger.reserve(holder, claim, (work) => background.push(work));
    };
    const answers = await Promise.all(Array.from({ length: 20 }, reserve));
    expect(answers.filter(({ refusal }) => refusal !== null)).toEqual([]);
    expect(calls).toHaveLength(20);
    expect((await reserve()).refusal?.limit).toBe('concurrency');
  });
});

describe('a key that is used now and then', () => {
  it('asks for each request', async () => {
    const { calls, background, run } = makeWorker();
    await run(makeHolder());
    await run(makeHolder());
    expect(calls).toEqual(['reserve', 'settle', 'reserve', 'settle']);
    await Promise.all(background);
    expect(calls).toHaveLength(4);
  });
});

describe("near a budget's end", { timeout: 20_000 }, () => {
  it('two Workers spend it to the last request that fits, and never more', async () => {
    const workers = [makeWorker(), makeWorker()];
    const holder = makeHolder({ budget: { micros: 400, window: 'month', hard: true } });
    let granted = 0;
    const loop = async ({ run }: (typeof workers)[number]) => {
      for (let i = 0; i < 80; i++) {
        const { refusal } = await run(holder, 1);
        if (refusal === null) granted += 1;
      }
    };
    await Promise.all(workers.flatMap((worker) => [worker, worker, worker, worker]).map(loop));
    // 640 were sent; each costs all that it reserved, so exactly 400 fit.
    expect(granted).toBe(400);
    await Promise.all(workers.flatMap(({ background }) => background));
    const { budget } = await bindings.LEDGER.getByName(holder.id).read(holder.limits);
    expect([budget?.settledMicros, budget?.reservedMicros]).toEqual([400, 0]);
    expect(workers.some(({ calls }) => calls.length < 600)).toBe(true);
  });
});

describe('requests that outlive their lease', () => {
  it('are settled with the ledger, in one call if they end together, and before the limits are read', async () => {
    const { ledger, calls, background, passBy } = makeWorker();
    const holder = makeHolder();
    const ids = [await passBy(holder), await passBy(holder), await passBy(holder), await passBy(holder)];
    await Promise.all(background);
    const object = bindings.LEDGER.getByName(holder.id);
    const { budget: held } = await object.read(holder.limits);
    expect(held).toMatchObject({ settledMicros: 0, reservedMicros: 40 });
    const before = calls.length;
    const settle = (id: string) => ledger.settle(holder, id, { tokens: 2, micros: 7 }, USE);
    await Promise.all(ids.slice(0, 3).map(settle));
    expect(calls.slice(before)).toEqual(['settleAll']);
    const last = settle(ids[3]!);
    const { budget } = await ledger.read(holder);
    expect(budget).toMatchObject({ settledMicros: 4 * 7, reservedMicros: 0 });
    await last;
    expect(calls.slice(before)).toEqual(['settleAll', 'settleAll', 'read']);
  });
});

describe('faults', () => {
  it('a restart of the object in the middle of a lease forgets nothing', async () => {
    const { background, run } = makeWorker();
    const holder = makeHolder();
    for (let i = 0; i < 10; i++) await run(holder);
    await evictDurableObject(bindings.LEDGER.getByName(holder.id));
    await run(holder);
    await Promise.all(background);
    const { budget } = await bindings.LEDGER.getByName(holder.id).read(holder.limits);
    expect([budget?.settledMicros, budget?.reservedMicros]).toEqual([11, 0]);
  });

  it.each(['never arrives', 'arrives, and its answer is lost'])(
    'a lease is given back with the next try when the first %s',
    async (what) => {
      let numFaults = 0;
      const failOnce = (call: Call) => {
        if (call !== 'takeBack' || numFaults > 0) return;
        numFaults += 1;
        throw new Error('the network is down');
      };
      const { ledger, background, run, passBy } =
        what === 'never arrives' ? makeWorker(failOnce) : makeWorker(() => {}, failOnce);
      const holder = makeHolder();
      const stream = await passBy(holder);
      await run(holder, 10, 7);
      await Promise.all(background);
      expect(numFaults).toBe(1);
      const read = async () => {
        const { budget, concurrency } = await bindings.LEDGER.getByName(holder.id).read(holder.limits);
        return [budget?.settledMicros, budget?.reservedMicros, concurrency.running];
      };
      // What ended is charged once, and what still runs has one reservation.
      expect(await read()).toEqual([7, 10, 1]);
      await ledger.settle(holder, stream, { tokens: 1, micros: 4 }, USE);
      expect(await read()).toEqual([11, 0, 0]);
    },
  );

  it('a lease whose end the ledger never hears of stays reserved, and its running requests fail to settle', async () => {
    const { ledger, calls, background, passBy } = makeWorker((call) => {
      if (call === 'takeBack') throw new Error('the network is down');
    });
    const holder = makeHolder();
    const id = await passBy(holder);
    await Promise.all(background);
    const numTries = calls.filter((call) => call === 'takeBack').length;
    expect(numTries).toBeGreaterThan(0);
    // Four for each lease.
    expect(numTries % 4).toBe(0);
    await expect(ledger.settle(holder, id, { tokens: 1, micros: 1 }, USE)).rejects.toThrow('not given back');
    const { budget } = await bindings.LEDGER.getByName(holder.id).read(holder.limits);
    // Dear rather than free: the whole share, of the request that asked and eight more.
    expect(budget?.reservedMicros).toBeGreaterThanOrEqual(90);
  });

  it('no lease is taken where nobody could give it back, or where the project has a budget', async () => {
    const { ledger, calls, run } = makeWorker();
    const holder = makeHolder();
    for (let i = 0; i < 5; i++) {
      const claim = { id: `r${i}`, most: { tokens: 5, micros: 10 }, lifeMs: 60_000, use: USE };
      await ledger.reserve(holder, claim);
    }
    expect(calls).toEqual(['reserve', 'reserve', 'reserve', 'reserve', 'reserve']);
    const shared = { ...makeHolder(), projectId: newId('project'), projectBudget: LIMITS.budget };
    for (let i = 0; i < 5; i++) await run(shared);
    expect(calls.filter((call) => call === 'reserve')).toHaveLength(10);
  });
});
