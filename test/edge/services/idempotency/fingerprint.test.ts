// Equal values have equal fingerprints, other values have others.
import { describe, expect, it } from 'vitest';
import { fingerprintOf } from '../../../../functions/services/idempotency/fingerprint';

describe('a fingerprint', () => {
  it('is of path and body together', async () => {
    const all = await Promise.all([
      fingerprintOf('/a', { x: 1 }),
      fingerprintOf('/a', { x: 2 }),
      fingerprintOf('/b', { x: 1 }),
      fingerprintOf('/a', undefined),
      fingerprintOf('/a', null),
    ]);
    expect(new Set(all).size).toBe(5);
    expect(await fingerprintOf('/a', { y: [{ b: 1, a: 2 }], x: 1 })).toBe(
      await fingerprintOf('/a', { x: 1, y: [{ a: 2, b: 1 }] }),
    );
    for (const text of all) expect(text).toMatch(/^[0-9a-f]{64}$/);
  });
});
