// The ledger's arithmetic: by hand, and over thousands of random histories against a count that keeps every claim ever made.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Ledger,
  newAccount,
  type Closing,
  type Limits,
  type Reservation,
} from '../../../../functions/services/ledger/accounting';
import { makeUse } from '../../../support/use';

const NOON = Date.UTC(2026, 10, 24, 12);
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

const LIMITS: Limits = {
  requestsPerMinute: 60,
  tokensPerMinute: 600,
  concurrency: 2,
  budget: { micros: 100, window: 'day', hard: true },
};

/** A ledger with its reservations in sight. */
function open(limits: Limits, nowMs: number) {
  const reservations = new Map<string, Reservation>();
  const closings: Closing[] = [];
  const ledger = new Ledger(newAccount(limits, nowMs), reservations, (closing) => closings.push(closing));
  return { ledger, reservations, closings };
}

const USE = makeUse({ inputTokens: 9, outputTokens: 1 });

const amount = (tokens: number, micros: number) => ({ tokens, micros });

describe('by hand', () => {
  it('a reservation takes the most and settling gives the rest back', () => {
    const { ledger } = open(LIMITS, NOON);
    expect(ledger.reserve(LIMITS, 'a', amount(500, 80), NOON + MINUTE, NOON)).toBeNull();
    // One of 60 requests comes back each second, one of 600 tokens each 100 ms.
    expect(ledger.state(LIMITS, NOON)).toEqual({
      requests: { limit: 60, remaining: 59, resetMs: 1000 },
      tokens: { limit: 600, remaining: 100, resetMs: 50_000 },
      concurrency: { limit: 2, running: 1 },
      budget: {
        ...LIMITS.budget,
        settledMicros: 0,
        reservedMicros: 80,
        resetsAtMs: NOON + DAY / 2,
        alertPercent: null,
      },
    });
    ledger.settle(LIMITS, 'a', amount(30, 5), NOON + 1000);
    // 100 and 10 of one second, and 470 of 500 that were not used.
    expect(ledger.state(LIMITS, NOON + 1000)).toMatchObject({
      requests: { remaining: 60, resetMs: 0 },
      tokens: { remaining: 580, resetMs: 2000 },
      concurrency: { running: 0 },
      budget: { settledMicros: 5, reservedMicros: 0 },
    });
    ledger.settle(LIMITS, 'a', amount(500, 80), NOON + 1000);
    expect(ledger.state(LIMITS, NOON + 1000).budget).toMatchObject({ settledMicros: 5 });
  });

  it('each limit refuses by its name and says when to come back', () => {
    const { ledger } = open(LIMITS, NOON);
    const reserve = (id: string, most: ReturnType<typeof amount>, nowMs = NOON) =>
      ledger.reserve(LIMITS, id, most, NOON + DAY, nowMs);
    expect(reserve('a', amount(601, 1))).toEqual({ limit: 'tokens', retryAfterMs: null, isHeld: false });
    expect(reserve('a', amount(1, 101))).toEqual({ limit: 'budget', retryAfterMs: null, isHeld: false });
    expect(reserve('a', amount(590, 60))).toBeNull();
    expect(reserve('b', amount(1, 41))).toEqual({ limit: 'budget', retryAfterMs: 1000, isHeld: true });
    expect(reserve('b', amount(11, 40))).toEqual({ limit: 'tokens', retryAfterMs: 100, isHeld: false });
    expect(reserve('b', amount(10, 40))).toBeNull();
    expect(reserve('c', amount(0, 0))).toEqual({ limit: 'concurrency', retryAfterMs: 1000, isHeld: true });
    ledger.settle(LIMITS, 'a', amount(590, 60), NOON);
    ledger.settle(LIMITS, 'b', amount(10, 40), NOON);
    expect(reserve('c', amount(0, 1))).toEqual({ limit: 'budget', retryAfterMs: DAY / 2, isHeld: false });
    expect(reserve('c', amount(0, 1), NOON + DAY / 2)).toBeNull();
  });

  it('requests come back one by one', () => {
    const limits = { ...LIMITS, requestsPerMinute: 2, concurrency: 9, budget: null };
    const { ledger } = open(limits, NOON);
    const reserve = (id: string, nowMs: number) =>
      ledger.reserve(limits, id, amount(0, 0), NOON + DAY, nowMs);
    expect([reserve('a', NOON), reserve('b', NOON)]).toEqual([null, null]);
    expect(reserve('c', NOON + 1)).toEqual({ limit: 'requests', retryAfterMs: 29_999, isHeld: false });
    expect(reserve('c', NOON + 30_000)).toBeNull();
  });

  it('an abandoned reservation is settled in full, and a late word changes nothing', () => {
    const { ledger } = open(LIMITS, NOON);
    ledger.reserve(LIMITS, 'a', amount(10, 7), NOON + 5000, NOON);
    expect(ledger.state(LIMITS, NOON + 4999).budget).toMatchObject({ settledMicros: 0, reservedMicros: 7 });
    expect(ledger.state(LIMITS, NOON + 5000).budget).toMatchObject({ settledMicros: 7, reservedMicros: 0 });
    ledger.settle(LIMITS, 'a', amount(1, 1), NOON + 5001);
    expect(ledger.state(LIMITS, NOON + 5001).budget).toMatchObject({ settledMicros: 7 });
  });

  it('charges the window that a request began in', () => {
    const { ledger } = open(LIMITS, NOON);
    ledger.reserve(LIMITS, 'a', amount(10, 70), NOON + 2 * DAY, NOON);
    const morrow = NOON + DAY / 2;
    expect(ledger.state(LIMITS, morrow).budget).toMatchObject({ settledMicros: 0, reservedMicros: 0 });
    ledger.settle(LIMITS, 'a', amount(10, 50), morrow);
    expect(ledger.state(LIMITS, morrow).budget).toMatchObject({ settledMicros: 0 });
    const monthly: Limits = { ...LIMITS, budget: { micros: 100, window: 'month', hard: true } };
    expect(ledger.state(monthly, morrow).budget).toMatchObject({
      settledMicros: 50,
      resetsAtMs: Date.UTC(2026, 11),
    });
  });

  it('a soft budget counts and refuses nothing', () => {
    const soft: Limits = { ...LIMITS, budget: { micros: 1, window: 'day', hard: false } };
    const { ledger } = open(soft, NOON);
    expect(ledger.reserve(soft, 'a', amount(1, 50), NOON + DAY, NOON)).toBeNull();
    ledger.settle(soft, 'a', amount(1, 50), NOON);
    expect(ledger.state(soft, NOON).budget).toMatchObject({ settledMicros: 50 });
  });

  it('says once what each request used, on the day that it began, and nothing of one that failed', () => {
    const { ledger, closings } = open(LIMITS, NOON);
    const today = NOON - DAY / 2;
    const used = { ...USE, inputTokens: 4 };
    ledger.reserve(LIMITS, 'a', amount(10, 7), NOON + 2 * DAY, NOON, USE);
    ledger.reserve(LIMITS, 'b', amount(10, 7), NOON + DAY, NOON, USE);
    ledger.settle(LIMITS, 'b', amount(0, 0), NOON);
    ledger.reserve(LIMITS, 'c', amount(10, 7), NOON + DAY, NOON, USE);
    ledger.settle(LIMITS, 'a', amount(5, 900), NOON + DAY - 1, used);
    ledger.settle(LIMITS, 'a', amount(5, 5), NOON + DAY - 1, used);
    expect(closings).toEqual([{ requests: 1, use: used, dayMs: today, micros: 7 }]);
    ledger.state(LIMITS, NOON + DAY);
    expect(closings.slice(1)).toEqual([{ requests: 1, use: USE, dayMs: today, micros: 7 }]);
  });

  it('counts what is answered without work as a request and nothing else', () => {
    const limits = { ...LIMITS, requestsPerMinute: 2, concurrency: 1, budget: null };
    const { ledger } = open(limits, NOON);
    expect(ledger.reserve(limits, 'a', amount(600, 0), NOON + DAY, NOON)).toBeNull();
    expect(ledger.count(limits, NOON)).toBeNull();
    expect(ledger.count(limits, NOON)).toEqual({ limit: 'requests', retryAfterMs: 30_000, isHeld: false });
    expect(ledger.count(limits, NOON + 30_000)).toBeNull();
    expect(ledger.state(limits, NOON + 30_000).concurrency.running).toBe(1);
  });

  it('never charges more than was reserved', () => {
    const { ledger } = open(LIMITS, NOON);
    ledger.reserve(LIMITS, 'a', amount(10, 7), NOON + DAY, NOON);
    ledger.settle(LIMITS, 'a', amount(10_000, 7000), NOON);
    const { budget, tokens } = ledger.state(LIMITS, NOON);
    expect([budget?.settledMicros, tokens.remaining]).toEqual([7, 0]);
  });
});

type Step =
  | { do: 'reserve'; tokens: number; micros: number; lifeMs: number }
  | { do: 'settle'; which: number; share: number }
  | { do: 'wait'; ms: number };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constant('reserve' as const),
        tokens: fc.integer({ min: 0, max: 400 }),
        micros: fc.integer({ min: 0, max: 60 }),
        lifeMs: fc.integer({ min: 1, max: 10 * MINUTE }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('settle' as const),
        which: fc.nat(),
        share: fc.double({ min: 0, max: 1.2, noNaN: true }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('wait' as const),
        ms: fc.oneof(
          fc.integer({ min: 0, max: 20_000 }),
          fc.integer({ min: -10 * MINUTE, max: 10 * MINUTE }),
          fc.integer({ min: -2 * DAY, max: 2 * DAY }),
          fc.integer({ min: -40 * DAY, max: 40 * DAY }),
        ),
      }),
    },
  ),
  { minLength: 5, maxLength: 60 },
);

const limitsOf: fc.Arbitrary<Limits> = fc.record({
  requestsPerMinute: fc.integer({ min: 1, max: 6 }),
  tokensPerMinute: fc.integer({ min: 1, max: 1500 }),
  concurrency: fc.integer({ min: 1, max: 5 }),
  budget: fc.record({
    micros: fc.integer({ min: 0, max: 300 }),
    window: fc.constantFrom('day' as const, 'month' as const),
    hard: fc.constant(true),
  }),
});

/** One claim that was granted, kept for ever: what it holds while it is open, what it cost in the end. */
interface Granted {
  id: string;
  tokens: number;
  micros: number;
  untilMs: number;
  window: string;
  isOpen: boolean;
}

/** Runs a history twice, in the ledger and as a plain list of claims, and compares after each step. */
function check(limits: Limits, history: Step[], seen: Record<string, number>): void {
  const budget = limits.budget!;
  let nowMs = NOON;
  const { ledger, reservations, closings } = open(limits, nowMs);
  const granted: Granted[] = [];
  // `2026-11-24` or `2026-11`; the latest that was ever seen.
  const windowAt = (ms: number) => new Date(ms).toISOString().slice(0, budget.window === 'day' ? 10 : 7);
  let window = windowAt(nowMs);
  let [requests, tokens] = [limits.requestsPerMinute * MINUTE, limits.tokensPerMinute * MINUTE];

  for (const [at, step] of history.entries()) {
    const id = `claim-${at}`;
    if (step.do === 'wait') {
      nowMs += step.ms;
      const elapsedMs = Math.max(0, step.ms);
      requests = Math.min(limits.requestsPerMinute * MINUTE, requests + elapsedMs * limits.requestsPerMinute);
      tokens = Math.min(limits.tokensPerMinute * MINUTE, tokens + elapsedMs * limits.tokensPerMinute);
    }
    if (windowAt(nowMs) > window) window = windowAt(nowMs);
    for (const claim of granted) if (claim.untilMs <= nowMs) claim.isOpen = false;
    const isOpen = () => granted.filter((claim) => claim.isOpen);
    const used = () =>
      granted.filter((claim) => claim.window === window).reduce((sum, { micros }) => sum + micros, 0);

    if (step.do === 'reserve') {
      const would = {
        budget: used() + step.micros > budget.micros,
        concurrency: isOpen().length >= limits.concurrency,
        requests: requests < MINUTE,
        tokens: tokens < step.tokens * MINUTE,
      };
      const refusal = ledger.reserve(limits, id, step, nowMs + step.lifeMs, nowMs, USE);
      const outcome = refusal?.limit ?? 'granted';
      seen[outcome] = (seen[outcome] ?? 0) + 1;
      if (refusal === null) {
        expect(would).toEqual({ budget: false, concurrency: false, requests: false, tokens: false });
        granted.push({ ...step, id, untilMs: nowMs + step.lifeMs, window, isOpen: true });
        requests -= MINUTE;
        tokens -= step.tokens * MINUTE;
      } else {
        expect(would[refusal.limit as keyof typeof would]).toBe(true);
        if (refusal.limit === 'requests' || refusal.limit === 'tokens') {
          checkAdvice(refusal.retryAfterMs, (ms) => {
            const copy = new Ledger(structuredClone(ledger.account), new Map(reservations));
            return copy.reserve(limits, id, step, Infinity, nowMs + ms)?.limit === refusal.limit;
          });
        }
      }
    }
    const claim = step.do === 'settle' ? granted[step.which % granted.length] : undefined;
    if (step.do === 'settle' && claim !== undefined) {
      const spent = amount(Math.round(claim.tokens * step.share), Math.round(claim.micros * step.share));
      ledger.settle(limits, claim.id, spent, nowMs, USE);
      if (claim.isOpen) {
        const back = tokens + (claim.tokens - spent.tokens) * MINUTE;
        tokens = Math.max(0, Math.min(limits.tokensPerMinute * MINUTE, back));
        claim.micros = Math.min(claim.micros, spent.micros);
        claim.isOpen = false;
      }
    }

    const state = ledger.state(limits, nowMs);
    // What usage hears is what was charged, over all days.
    const closed = granted.filter((candidate) => !candidate.isOpen);
    const sumOf = (list: { micros: number }[]) => list.reduce((sum, { micros }) => sum + micros, 0);
    expect([closings.length, sumOf(closings)]).toEqual([closed.length, sumOf(closed)]);
    expect(state.budget!.settledMicros + state.budget!.reservedMicros).toBe(used());
    expect(used()).toBeLessThanOrEqual(budget.micros);
    expect(state.concurrency.running).toBe(isOpen().length);
    expect(state.concurrency.running).toBeLessThanOrEqual(limits.concurrency);
    expect([ledger.account.requests.level, ledger.account.tokens.level]).toEqual([requests, tokens]);
    expect(Math.min(requests, tokens)).toBeGreaterThanOrEqual(0);
  }
}

/** The advice is exact: at that moment the limit is no obstacle, one millisecond earlier it still is. */
function checkAdvice(retryAfterMs: number | null, isRefusedAfter: (ms: number) => boolean): void {
  if (retryAfterMs === null) {
    expect(isRefusedAfter(DAY)).toBe(true);
    return;
  }
  expect(isRefusedAfter(retryAfterMs)).toBe(false);
  expect(isRefusedAfter(retryAfterMs - 1)).toBe(true);
}

describe('in 2000 random histories, with clocks that jump', () => {
  it('spending never exceeds the budget, limits hold, and nothing is refused without need', () => {
    const seen: Record<string, number> = {};
    fc.assert(
      fc.property(limitsOf, steps, (limits, history) => check(limits, history, seen)),
      { numRuns: 2000, seed: 20_261_124 },
    );
    // Each way a claim can go was taken often.
    for (const outcome of ['granted', 'budget', 'concurrency', 'requests', 'tokens']) {
      expect([outcome, seen[outcome]! > 500]).toEqual([outcome, true]);
    }
  });
});
