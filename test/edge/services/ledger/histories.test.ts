// 200 parallel requests at a budget's edge before the real Durable Object; `npm run bench -- edge` plays a thousand such histories.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import { DurableObjectLedger } from '../../../../functions/services/ledger';
import { bindings } from '../../../support/bindings';
import { playHistory } from '../../../support/ledger-history';

const REQUESTS = 200;

const history = fc.record({
  /** Of what all requests could cost together. */
  part: fc.double({ min: 0.1, max: 0.9, noNaN: true }),
  requests: fc.array(
    fc.record({
      micros: fc.integer({ min: 1, max: 100 }),
      usedMicros: fc.nat(120),
      afterMs: fc.constantFrom(0, 0, 0, 0, 5, 15),
      runsMs: fc.nat(20),
      isLookedAt: fc.boolean(),
    }),
    { minLength: REQUESTS, maxLength: REQUESTS },
  ),
});

it('in 8 histories never exceed the budget, are refused only for what is held, and settle to what was told', async () => {
  const ledger = new DurableObjectLedger(bindings.LEDGER, bindings.PROJECT_LEDGER);
  let refused = 0;
  const property = fc.asyncProperty(history, async ({ part, requests }) => {
    const most = requests.reduce((sum, { micros }) => sum + micros, 0);
    const budgetMicros = Math.floor(most * part);
    const played = await playHistory(ledger, { keyId: newId('key'), budgetMicros, requests });
    expect(played.wrong).toEqual([]);
    // Each answer to a reservation was looked at.
    expect(played.seen).toBeGreaterThanOrEqual(REQUESTS);
    refused += played.refused;
  });
  await fc.assert(property, { numRuns: 8, seed: 20_261_128, endOnFailure: true });
  expect(refused).toBeGreaterThan(8 * 20);
  expect(refused).toBeLessThan(8 * 180);
}, 60_000);
