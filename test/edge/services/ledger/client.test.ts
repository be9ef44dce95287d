// A key's ledger and its project's together: over random interleavings of their calls, and when one of them cannot be reached.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DurableObjectLedger,
  type Budget,
  type Limits,
  type Use,
} from '../../../../functions/services/ledger';
import { Ledger, newAccount, type Amount } from '../../../../functions/services/ledger/accounting';
import { OpenHolds, type Hold } from '../../../../functions/services/ledger/holds';
import type {
  Claim,
  Holder,
  ProjectClaim,
  ProjectHolder,
} from '../../../../functions/services/ledger/interface';
import { newSpent, Spending } from '../../../../functions/services/ledger/spending';
import { makeUse } from '../../../support/use';

const NOW = Date.UTC(2026, 10, 24, 12);
const LIFE_MS = 60_000;

const LIMITS: Limits = { requestsPerMinute: 1e6, tokensPerMinute: 1e9, concurrency: 1000, budget: null };

const USE = makeUse();

/** A key's object without its disk. */
class FakeKey {
  readonly #ledger = new Ledger(newAccount(LIMITS, NOW), new Map());

  reserve(limits: Limits, { id, most, use }: Claim) {
    const refusal = this.#ledger.reserve(limits, id, most, NOW + LIFE_MS, NOW, use);
    return { refusal, state: this.#ledger.state(limits, NOW) };
  }

  settle(limits: Limits, id: string, used: Amount, use: Use | null): void {
    this.#ledger.settle(limits, id, used, NOW, use);
  }

  read(limits: Limits) {
    return this.#ledger.state(limits, NOW);
  }
}

/** A project's object without its disk, beside a plain list of every claim that it ever granted. */
class FakeProject {
  readonly #spending = new Spending<Hold>(newSpent(NOW), new OpenHolds(new Map()), () => {});
  readonly granted = new Map<string, { micros: number; isOpen: boolean }>();
  numRefused = 0;
  /** What went against the law, in words. */
  readonly wrong: string[] = [];

  reserve({ budget }: ProjectHolder, { id, micros }: ProjectClaim) {
    const would = this.#used() + micros > budget.micros;
    const refusal = this.#spending.refusal(budget, micros, NOW);
    // Refused exactly when settled, reserved and its own worst case would exceed the budget.
    if ((refusal !== null) !== would) this.wrong.push(`${id}: ${refusal === null ? 'granted' : 'refused'}`);
    if (refusal === null) {
      this.#spending.open(id, { micros, untilMs: NOW + LIFE_MS, starts: this.#spending.starts });
      this.granted.set(id, { micros, isOpen: true });
    } else {
      this.numRefused += 1;
    }
    this.#check(budget);
    return refusal;
  }

  settle({ budget }: ProjectHolder, id: string, micros: number): void {
    this.#spending.close(budget, id, micros);
    const claim = this.granted.get(id);
    if (claim?.isOpen) this.granted.set(id, { micros: Math.min(micros, claim.micros), isOpen: false });
    this.#check(budget);
  }

  read({ budget }: ProjectHolder) {
    return this.#spending.state(budget);
  }

  #check(budget: Budget): void {
    const { settledMicros, reservedMicros } = this.#spending.state(budget);
    const used = this.#used();
    if (settledMicros + reservedMicros !== used) this.wrong.push(`${settledMicros} and ${reservedMicros}`);
    if (used > budget.micros) this.wrong.push(`${used} of ${budget.micros}`);
  }

  #used(): number {
    return [...this.granted.values()].reduce((sum, { micros }) => sum + micros, 0);
  }
}

type Method = (...args: unknown[]) => unknown;

/** Objects behind calls that `travel`, each way. */
function namespaceOf(make: () => object, travel: () => Promise<void>): DurableObjectNamespace {
  const objects = new Map<string, object>();
  const getByName = (name: string) => {
    const object = objects.get(name) ?? make();
    objects.set(name, object);
    return new Proxy(object, {
      get:
        (target, method) =>
        async (...args: unknown[]) => {
          await travel();
          const result = (Reflect.get(target, method) as Method).apply(target, args);
          await travel();
          return result;
        },
    });
  };
  return { getByName } as unknown as DurableObjectNamespace;
}

const holderOf = (id: string, micros: number, limits: Limits = LIMITS): Holder => ({
  id,
  limits,
  projectId: 'prj_a',
  projectBudget: { micros, window: 'month', hard: true },
});

const claimOf = (id: string, micros: number): Claim => ({
  id,
  most: { tokens: 1, micros },
  lifeMs: LIFE_MS,
  use: USE,
});

const requests = fc.array(
  fc.record({
    key: fc.constantFrom(0, 1),
    most: fc.integer({ min: 0, max: 60 }),
    share: fc.double({ min: 0, max: 1.2, noNaN: true }),
    fails: fc.boolean(),
  }),
  { minLength: 2, maxLength: 14 },
);

describe('two keys of one project, over 500 random interleavings', () => {
  it('never exceed its budget, and are refused only when they could', async () => {
    const seen: Record<string, number> = {};
    const property = fc.asyncProperty(
      fc.scheduler(),
      fc.integer({ min: 0, max: 150 }),
      fc.option(fc.integer({ min: 0, max: 150 }), { nil: null }),
      requests,
      async (scheduler, micros, ownMicros, history) => {
        const travel = async () => {
          await scheduler.schedule(Promise.resolve());
        };
        const project = new FakeProject();
        const keys = namespaceOf(() => new FakeKey(), travel);
        const ledger = new DurableObjectLedger(
          keys,
          namespaceOf(() => project, travel),
        );
        const own: Budget = { micros: ownMicros ?? 1e9, window: 'month', hard: true };
        const holders = ['key_a', 'key_b'].map((id) => holderOf(id, micros, { ...LIMITS, budget: own }));

        const run = async ({ key, most, share, fails }: (typeof history)[number], at: number) => {
          await travel();
          const holder = holders[key]!;
          const { refusal, state } = await ledger.reserve(holder, claimOf(`r${at}`, most));
          const outcome = refusal?.limit ?? 'granted';
          seen[outcome] = (seen[outcome] ?? 0) + 1;
          expect(state.budget!.settledMicros + state.budget!.reservedMicros).toBeLessThanOrEqual(own.micros);
          if (refusal !== null) return;
          await travel();
          const used = { tokens: 1, micros: fails ? 0 : Math.round(most * share) };
          await ledger.settle(holder, `r${at}`, used, fails ? null : USE);
        };
        await scheduler.waitFor(Promise.all(history.map(run)));
        expect(project.wrong).toEqual([]);

        // Nothing is held any more, and what the keys have settled is what the project has.
        const reading = Promise.all([
          ...holders.map((holder) => ledger.read(holder).then(({ budget }) => budget!)),
          ledger.readProject(holders[0]!).then((budget) => budget!),
        ]);
        const states = await scheduler.waitFor(reading);
        expect(states.map(({ reservedMicros }) => reservedMicros)).toEqual([0, 0, 0]);
        const [one, other, both] = states.map(({ settledMicros }) => settledMicros);
        expect(one! + other!).toBe(both);
      },
    );
    await fc.assert(property, { numRuns: 500, seed: 20_261_128 });
    for (const outcome of ['granted', 'budget', 'project_budget']) {
      expect([outcome, seen[outcome]! > 200]).toEqual([outcome, true]);
    }
  });
});

describe('by hand', () => {
  const travel = () => Promise.resolve();
  const open = (project: object) => {
    const keys = namespaceOf(() => new FakeKey(), travel);
    return new DurableObjectLedger(
      keys,
      namespaceOf(() => project, travel),
    );
  };

  it("a refusal by the project gives the key's reservation back, but not the request of the minute", async () => {
    const ledger = open(new FakeProject());
    const holder = holderOf('key_a', 100, { ...LIMITS, budget: { micros: 1000, window: 'day', hard: true } });
    await ledger.reserve(holder, claimOf('a', 70));
    const { refusal, state } = await ledger.reserve(holder, claimOf('b', 31));
    expect(refusal).toEqual({ limit: 'project_budget', retryAfterMs: 1000, isHeld: true });
    expect(state).toMatchObject({
      requests: { remaining: 1e6 - 2 },
      tokens: { remaining: 1e9 - 1 },
      concurrency: { running: 1 },
      budget: { settledMicros: 0, reservedMicros: 70 },
    });
    expect((await ledger.reserve(holder, claimOf('c', 30))).refusal).toBeNull();
  });

  it('a key whose project has no budget never asks it', async () => {
    const ledger = open({});
    const holder = { ...holderOf('key_a', 0), projectBudget: null };
    expect((await ledger.reserve(holder, claimOf('a', 50))).refusal).toBeNull();
    await ledger.settle(holder, 'a', { tokens: 1, micros: 1 }, USE);
    expect(await ledger.readProject(holder)).toBeNull();
  });

  it('a refusal by the key never asks the project', async () => {
    const project = new FakeProject();
    const ledger = open(project);
    const own: Limits = { ...LIMITS, budget: { micros: 10, window: 'day', hard: true } };
    const { refusal } = await ledger.reserve(holderOf('key_a', 100, own), claimOf('a', 11));
    expect([refusal?.limit, project.granted.size, project.numRefused]).toEqual(['budget', 0, 0]);
  });

  it('a project that cannot be reached lets nothing through and leaves nothing held', async () => {
    class Lost extends FakeProject {
      override reserve(project: ProjectHolder, claim: ProjectClaim): never {
        super.reserve(project, claim);
        throw new Error('the answer was lost');
      }
    }
    const project = new Lost();
    const ledger = open(project);
    const holder = holderOf('key_a', 100);
    await expect(ledger.reserve(holder, claimOf('a', 50))).rejects.toThrow('the answer was lost');
    expect((await ledger.read(holder)).concurrency.running).toBe(0);
    expect(project.granted.get('a')).toEqual({ micros: 0, isOpen: false });
  });

  it('settling goes on in one ledger when the other cannot be reached', async () => {
    class Away extends FakeProject {
      override settle(): never {
        throw new Error('away');
      }
    }
    const ledger = open(new Away());
    const holder = holderOf('key_a', 100);
    await ledger.reserve(holder, claimOf('a', 50));
    await expect(ledger.settle(holder, 'a', { tokens: 1, micros: 5 }, USE)).rejects.toThrow('away');
    expect((await ledger.read(holder)).concurrency.running).toBe(0);
  });
});
