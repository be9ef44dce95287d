// What a ledger lends to Workers: by hand, and over random histories of two Workers, some of which die, against a count that keeps every request ever made.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Ledger,
  newAccount,
  type Closing,
  type Limits,
  type Reservation,
  type Use,
} from '../../../../functions/services/ledger/accounting';
import { Lease, type Share } from '../../../../functions/services/ledger/lease';
import { makeUse } from '../../../support/use';

const NOON = Date.UTC(2026, 10, 24, 12);
const MINUTE = 60_000;
const LIFE_MS = 500;

const LIMITS: Limits = {
  requestsPerMinute: 600,
  tokensPerMinute: 6000,
  concurrency: 80,
  budget: { micros: 1000, window: 'day', hard: true },
};

const USE = makeUse({ inputTokens: 3, outputTokens: 1 });

const amount = (tokens: number, micros: number) => ({ tokens, micros });
const claim = (id: string, most = amount(10, 5)) => ({ id, most, use: USE, lifeMs: MINUTE });
const WISH: Share = { requests: 10, slots: 8, tokens: 100, micros: 50 };

function open(limits = LIMITS) {
  const closings: Closing[] = [];
  const reservations = new Map<string, Reservation>();
  const ledger = new Ledger(newAccount(limits, NOON), reservations, (closing) => closings.push(closing));
  /** With a first request of `most`, unless it is refused. */
  const lend = (
    id: string,
    wish: Share,
    nowMs: number,
    { most = amount(0, 0), lifeMs = 240 * MINUTE } = {},
  ) => {
    const first = `first of ${id}`;
    const refusal = ledger.reserve(limits, first, most, nowMs + 240 * MINUTE, nowMs, USE);
    const share = refusal === null ? ledger.lend(limits, id, first, wish, nowMs + lifeMs, nowMs) : null;
    if (share === null) return { refusal, share, lease: null };
    const lease = new Lease({ id, share, lifeMs: LIFE_MS }, limits, ledger.state(limits, nowMs), nowMs);
    lease.begin({ ...claim(first, most), lifeMs: 240 * MINUTE }, nowMs);
    return { refusal, share, lease };
  };
  return { ledger, reservations, closings, lend };
}

describe('by hand', () => {
  it('a share is reserved like a request, lets requests pass, and comes back as what they used', () => {
    const { ledger, closings, lend } = open();
    const { lease, share } = lend('l', WISH, NOON, { most: amount(10, 5) });
    expect(share).toEqual({ requests: 11, slots: 9, tokens: 110, micros: 55 });
    expect(ledger.state(LIMITS, NOON)).toMatchObject({
      requests: { remaining: 589 },
      tokens: { remaining: 5890 },
      concurrency: { running: 9 },
      budget: { settledMicros: 0, reservedMicros: 55 },
    });
    expect(lease!.take(LIMITS, claim('b'), NOON + 100)).toBe(true);
    expect(lease!.settle('first of l', amount(4, 2), { ...USE, inputTokens: 4 })).toBe(true);
    // As if there was no lease: 2 of 600 requests, of which 1 came back in 100 ms; 14 of 6000 tokens, of which 10 did.
    expect(lease!.state(NOON + 100)).toMatchObject({
      requests: { limit: 600, remaining: 599, resetMs: 100 },
      tokens: { limit: 6000, remaining: 5996, resetMs: 40 },
      concurrency: { limit: 80, running: 1 },
      budget: { settledMicros: 2, reservedMicros: 5 },
    });
    const returned = lease!.giveBack(NOON + 600);
    expect(returned).toEqual({
      id: 'l',
      requests: 2,
      ended: [{ requests: 1, used: amount(4, 2), use: { ...USE, inputTokens: 4 } }],
      running: [{ ...claim('b'), lifeMs: MINUTE - 500 }],
    });
    ledger.takeBack(LIMITS, returned, NOON + 600);
    expect(ledger.state(LIMITS, NOON + 600)).toMatchObject({
      requests: { remaining: 600 },
      concurrency: { running: 1 },
      budget: { settledMicros: 2, reservedMicros: 5 },
    });
    const dayMs = NOON - 12 * 60 * MINUTE;
    expect(closings).toEqual([{ requests: 1, use: { ...USE, inputTokens: 4 }, dayMs, micros: 2 }]);
    ledger.settle(LIMITS, 'b', amount(10, 5), NOON + 700, USE);
    ledger.takeBack(LIMITS, returned, NOON + 700);
    expect(ledger.state(LIMITS, NOON + 700).budget).toMatchObject({ settledMicros: 7, reservedMicros: 0 });
    expect(closings).toHaveLength(2);
  });

  it('lends an eighth of what is left at most, and nothing near a limit', () => {
    const { ledger, lend } = open();
    const { share } = lend('l', { requests: 999, slots: 999, tokens: 9999, micros: 999 }, NOON);
    // Besides the first request: an eighth of 599 requests, 79 places, 6000 tokens and 1000 micros.
    expect(share).toEqual({ requests: 75, slots: 10, tokens: 750, micros: 125 });
    expect(ledger.reserve(LIMITS, 'a', amount(0, 850), NOON + MINUTE, NOON, USE)).toBeNull();
    // 25 of the budget are left, an eighth of which is 3.
    expect(lend('n', WISH, NOON).share?.micros).toBe(3);
    // A share of 3 is of no use to requests that may cost 4 each.
    expect(lend('o', WISH, NOON, { most: amount(0, 4) }).share).toBeNull();
    for (const near of [{ concurrency: 32 }, { requestsPerMinute: 32 }]) {
      const { reservations, ...few } = open({ ...LIMITS, ...near });
      expect(few.lend('l', WISH, NOON)).toEqual({ refusal: null, share: null, lease: null });
      // The request itself has its reservation.
      expect([...reservations.keys()]).toEqual(['first of l']);
    }
  });

  it('a soft budget and none limit no share', () => {
    for (const budget of [null, { micros: 1, window: 'day' as const, hard: false }]) {
      expect(open({ ...LIMITS, budget }).lend('l', WISH, NOON).share?.micros).toBe(50);
    }
  });

  it('a lease that nobody gives back is charged in full, and written down as what it was lent for', () => {
    const { ledger, closings, lend } = open();
    const { lease } = lend('l', WISH, NOON, { lifeMs: 5000 });
    expect(ledger.isLending).toBe(true);
    expect(ledger.state(LIMITS, NOON + 5000).budget).toMatchObject({ settledMicros: 50, reservedMicros: 0 });
    expect(ledger.isLending).toBe(false);
    const use = { ...USE, inputTokens: 100, outputTokens: 0 };
    expect(closings).toEqual([{ requests: 1, use, dayMs: NOON - 12 * 60 * MINUTE, micros: 50 }]);
    ledger.takeBack(LIMITS, lease!.giveBack(NOON + 5001), NOON + 5001);
    expect(ledger.state(LIMITS, NOON + 5001)).toMatchObject({
      concurrency: { running: 0 },
      budget: { settledMicros: 50 },
    });
  });

  it('lets nothing pass that has no room, when it is over, after a clock went back, or under other limits', () => {
    const { lease } = open().lend('l', { requests: 4, slots: 4, tokens: 100, micros: 50 }, NOON);
    const passes = (id: string, most: ReturnType<typeof amount>, nowMs = NOON, limits = LIMITS) =>
      lease!.take(limits, claim(id, most), nowMs);
    expect(passes('a', amount(101, 1))).toBe(false);
    expect(passes('a', amount(1, 51))).toBe(false);
    expect(passes('a', amount(1, 1), NOON + LIFE_MS)).toBe(false);
    expect(passes('a', amount(1, 1), NOON - 1)).toBe(false);
    const otherBudget = { ...LIMITS, budget: { ...LIMITS.budget!, micros: 999 } };
    expect(passes('a', amount(1, 1), NOON, otherBudget)).toBe(false);
    expect(passes('a', amount(1, 1), NOON, { ...LIMITS, concurrency: 79 })).toBe(false);
    expect(passes('a', amount(1, 1), NOON, structuredClone(LIMITS))).toBe(true);
    for (const id of ['b', 'c', 'd']) expect(passes(id, amount(1, 1))).toBe(true);
    // Four requests and four places: none is left, and a place that comes back is no new request.
    expect(passes('e', amount(1, 1))).toBe(false);
    lease!.settle('a', amount(1, 1), USE);
    expect(passes('e', amount(1, 1))).toBe(false);
    lease!.giveBack(NOON);
    expect(lease!.settle('b', amount(1, 1), USE)).toBe(false);
    expect(lease!.settle('nobody', amount(1, 1), USE)).toBe(false);
  });

  it('sums what ends of those that usage does not tell apart, and of no others', () => {
    const { ledger, closings, lend } = open();
    const { lease } = lend('l', WISH, NOON, { most: amount(10, 5) });
    const ends: [string, Use | null][] = [
      ['first of l', { ...USE, inputTokens: 4, cachedTokens: 2, outputTokens: 3 }],
      ['b', { ...USE, endUser: 'ann' }],
      ['c', null],
      ['d', { ...USE, exit: 'cache' }],
      ['e', { ...USE, inputTokens: 5, cachedTokens: 1, outputTokens: 2 }],
      ['f', { ...USE, model: 'other' }],
      ['g', null],
      ['h', { ...USE, operation: 'other' }],
    ];
    for (const [id] of ends.slice(1)) expect(lease!.take(LIMITS, claim(id), NOON)).toBe(true);
    for (const [at, [id, use]] of ends.entries()) expect(lease!.settle(id, amount(at, 2), use)).toBe(true);
    // Whoever settled may go on with what they gave.
    expect(ends[0]?.[1]).toMatchObject({ inputTokens: 4 });
    const returned = lease!.giveBack(NOON);
    const both = { ...USE, inputTokens: 9, cachedTokens: 3, outputTokens: 5 };
    expect(returned.ended).toEqual([
      { requests: 2, used: amount(4, 4), use: both },
      { requests: 1, used: amount(1, 2), use: ends[1]?.[1] },
      { requests: 2, used: amount(8, 4), use: null },
      { requests: 1, used: amount(3, 2), use: ends[3]?.[1] },
      { requests: 1, used: amount(5, 2), use: ends[5]?.[1] },
      { requests: 1, used: amount(7, 2), use: ends[7]?.[1] },
    ]);
    ledger.takeBack(LIMITS, returned, NOON);
    expect(ledger.state(LIMITS, NOON).budget).toMatchObject({ settledMicros: 16, reservedMicros: 0 });
    const dayMs = NOON - 12 * 60 * MINUTE;
    expect(closings).toHaveLength(5);
    expect(closings[0]).toEqual({ requests: 2, use: both, dayMs, micros: 4 });
  });

  it('never charges a request more than it reserved', () => {
    const { ledger, lend } = open();
    const { lease } = lend('l', WISH, NOON, { most: amount(10, 5) });
    lease!.settle('first of l', amount(5000, 900), USE);
    ledger.takeBack(LIMITS, lease!.giveBack(NOON), NOON);
    expect(ledger.state(LIMITS, NOON)).toMatchObject({
      tokens: { remaining: 1000 },
      budget: { settledMicros: 5, reservedMicros: 0 },
    });
  });
});

type Step =
  | { do: 'begin'; worker: 0 | 1; tokens: number; micros: number }
  | { do: 'end'; which: number; share: number; fails: boolean }
  | { do: 'return'; worker: 0 | 1 }
  | { do: 'die'; worker: 0 | 1 }
  | { do: 'wait'; ms: number };

const worker = fc.constantFrom(0 as const, 1 as const);
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant('begin' as const),
        worker,
        tokens: fc.integer({ min: 0, max: 30 }),
        micros: fc.integer({ min: 0, max: 25 }),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('end' as const),
        which: fc.nat(),
        share: fc.double({ min: 0, max: 1.2, noNaN: true }),
        fails: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('return' as const), worker }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('die' as const), worker }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 20_000 }) }),
    },
  ),
  { minLength: 20, maxLength: 120 },
);

interface Request {
  id: string;
  most: { tokens: number; micros: number };
  lease: Lease | null;
  worker: number;
  /** What it costs in the end; the most while it runs. */
  micros: number;
  isOpen: boolean;
}

/** Lets requests of two Workers pass by leases where they have one, as a Worker does, and compares with a plain list after each step. */
function check(micros: number, history: Step[], seen: Record<string, number>): void {
  const limits = { ...LIMITS, budget: { micros, window: 'day' as const, hard: true } };
  const { ledger, reservations, lend } = open(limits);
  const requests: Request[] = [];
  const leases: (Lease | null)[] = [null, null];
  /** What died with a Worker: all of its lease is charged. */
  let isSomebodyDead = false;
  let nowMs = NOON;
  const giveBack = (at: number) => {
    const lease = leases[at];
    if (lease?.phase === 'open') ledger.takeBack(limits, lease.giveBack(nowMs), nowMs);
    leases[at] = null;
  };
  for (const [at, step] of history.entries()) {
    if (step.do === 'wait') nowMs += step.ms;
    if (step.do === 'return') giveBack(step.worker);
    if (step.do === 'die' && leases[step.worker] !== null) {
      for (const request of requests) if (request.lease === leases[step.worker]) request.isOpen = false;
      leases[step.worker] = null;
      isSomebodyDead = true;
    }
    if (step.do === 'begin') {
      const most = amount(step.tokens, step.micros);
      const request = { id: `r${at}`, most, worker: step.worker, micros: most.micros, isOpen: true };
      const lease = leases[step.worker] ?? null;
      if (lease?.take(limits, { ...claim(request.id, most), lifeMs: 240 * MINUTE }, nowMs) === true) {
        requests.push({ ...request, lease });
        seen['passed'] = (seen['passed'] ?? 0) + 1;
      } else {
        giveBack(step.worker);
        const wish = { requests: 8, slots: 8, tokens: 8 * step.tokens, micros: 8 * step.micros };
        const lent = lend(`l${at}`, wish, nowMs, { most });
        const { refusal } = lent;
        const outcome = refusal?.limit ?? 'asked';
        seen[outcome] = (seen[outcome] ?? 0) + 1;
        if (refusal === null) {
          requests.push({ ...request, id: `first of l${at}`, lease: lent.lease });
          leases[step.worker] = lent.lease;
        } else if (refusal.limit === 'budget' && leases.every((other) => other === null) && !isSomebodyDead) {
          // Nobody has a share: then it is refused only because it does not fit.
          const used = requests.reduce((sum, each) => sum + each.micros, 0);
          expect(used + most.micros).toBeGreaterThan(micros);
        }
      }
    }
    const request = step.do === 'end' ? requests[step.which % requests.length] : undefined;
    if (step.do === 'end' && request?.isOpen) {
      const spent = step.fails
        ? amount(0, 0)
        : amount(Math.round(request.most.tokens * step.share), Math.round(request.most.micros * step.share));
      const use = step.fails ? null : USE;
      const isRemembered = request.lease?.settle(request.id, spent, use) === true;
      if (!isRemembered) ledger.settle(limits, request.id, spent, nowMs, use);
      request.micros = Math.min(spent.micros, request.most.micros);
      request.isOpen = false;
    }
    const state = ledger.state(limits, nowMs);
    const used = requests.reduce((sum, each) => sum + each.micros, 0);
    const charged = state.budget!.settledMicros + state.budget!.reservedMicros;
    expect(charged).toBeLessThanOrEqual(micros);
    expect(charged).toBeGreaterThanOrEqual(used);
    expect(state.concurrency.running).toBeLessThanOrEqual(limits.concurrency);
    expect(ledger.account.tokens.level).toBeGreaterThanOrEqual(0);
    expect(ledger.account.requests.level).toBeGreaterThanOrEqual(0);
  }
  giveBack(0);
  giveBack(1);
  if (isSomebodyDead) return;
  // With all leases given back the ledger has exactly what the list has.
  const { budget, concurrency } = ledger.state(limits, nowMs);
  const running = requests.filter(({ isOpen }) => isOpen);
  expect(budget!.settledMicros + budget!.reservedMicros).toBe(
    requests.reduce((sum, each) => sum + each.micros, 0),
  );
  expect([concurrency.running, reservations.size]).toEqual([running.length, running.length]);
  seen['exact'] = (seen['exact'] ?? 0) + 1;
}

describe('in 1500 random histories of two Workers', () => {
  it('spending never exceeds the budget, nothing used is forgotten, and all that was lent comes back', () => {
    const seen: Record<string, number> = {};
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 900 }), steps, (micros, history) => check(micros, history, seen)),
      { numRuns: 1500, seed: 20_261_128 },
    );
    for (const outcome of ['passed', 'asked', 'budget', 'exact']) {
      expect([outcome, seen[outcome]! > 300]).toEqual([outcome, true]);
    }
  });
});
