// The sums that a ledger keeps of what is held are those that adding up all of it gives, whatever happened before.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OpenHolds, type Hold } from '../../../../functions/services/ledger/holds';

const starts = fc.constantFrom(0, 1, 2);
const hold: fc.Arbitrary<Hold> = fc.record(
  {
    micros: fc.nat(100),
    untilMs: fc.nat(50),
    starts: fc.record({ day: starts, month: starts }),
    lent: fc.record({ slots: fc.nat(5) }),
  },
  { requiredKeys: ['micros', 'untilMs', 'starts'] },
);
const id = fc.constantFrom('a', 'b', 'c', 'd', 'e');
const step = fc.oneof(
  fc.record({ do: fc.constant('open' as const), id, hold }),
  fc.record({ do: fc.constant('close' as const), id }),
  fc.record({ do: fc.constant('end' as const), nowMs: fc.nat(60) }),
);

/** What the sums stand for. */
function addedUp(map: ReadonlyMap<string, Hold>) {
  const all = [...map.values()];
  const reserved = (['day', 'month'] as const).flatMap((window) =>
    [0, 1, 2].map((startMs) =>
      all.filter((one) => one.starts[window] === startMs).reduce((sum, { micros }) => sum + micros, 0),
    ),
  );
  const running = all.reduce((sum, { lent }) => sum + (lent?.slots ?? 1), 0);
  return { reserved, running, isLending: all.some(({ lent }) => lent !== undefined) };
}

function kept(holds: OpenHolds<Hold>) {
  const reserved = (['day', 'month'] as const).flatMap((window) =>
    [0, 1, 2].map((startMs) => holds.reserved(window, startMs)),
  );
  return { reserved, running: holds.running, isLending: holds.isLending };
}

describe('what is held', () => {
  it('is summed as it is opened and closed, and as it is found on a disk', () => {
    let numEnded = 0;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (history) => {
        const map = new Map<string, Hold>();
        const holds = new OpenHolds(map);
        for (const one of history) {
          if (one.do === 'open') holds.open(one.id, one.hold);
          if (one.do === 'close') {
            const before = map.get(one.id);
            expect(holds.close(one.id)).toBe(before);
          }
          if (one.do === 'end') {
            const past = [...map].filter(([, { untilMs }]) => untilMs <= one.nowMs).map(([key]) => key);
            const ended = holds.ended(one.nowMs);
            expect(ended).toEqual(past);
            for (const key of ended) holds.close(key);
            numEnded += ended.length;
            expect(holds.nextEndMs(one.nowMs)).toBeGreaterThan(one.nowMs);
          }
          const ends = [...map.values()].map(({ untilMs }) => untilMs);
          // Looking too early costs little; looking too late would leave something open.
          expect(holds.nextEndMs(-1)).toBeLessThanOrEqual(Math.min(...ends));
          expect(holds.nextEndMs(-1) === Infinity).toBe(map.size === 0);
          expect(kept(holds)).toEqual(addedUp(map));
          expect(kept(new OpenHolds(new Map(map)))).toEqual(addedUp(map));
        }
      }),
      { numRuns: 300 },
    );
    expect(numEnded).toBeGreaterThan(100);
  });

  it('ends at its time also where nobody closes it, or the clock goes back', () => {
    const holds = new OpenHolds(new Map<string, Hold>());
    const begin = { day: 0, month: 0 };
    holds.open('early', { micros: 1, untilMs: 10, starts: begin });
    holds.open('late', { micros: 1, untilMs: 20, starts: begin });
    expect(holds.ended(9)).toEqual([]);
    expect(holds.ended(10)).toEqual(['early']);
    expect(holds.ended(10)).toEqual(['early']);
    holds.close('early');
    expect([holds.ended(5), holds.ended(19), holds.ended(20)]).toEqual([[], [], ['late']]);
  });
});
