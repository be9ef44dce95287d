// Hashes equal the published vector; comparison is exact.
import { expect, it } from 'vitest';
import { equalInConstantTime, hmacSha256, toHex } from '../../../functions/lib/hash';

it('equals test case 2 of RFC 4231', async () => {
  expect(toHex(await hmacSha256('Jefe', 'what do ya want for nothing?'))).toBe(
    '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  );
});

it('compares texts exactly', () => {
  expect(equalInConstantTime('abc', 'abc')).toBe(true);
  expect(equalInConstantTime('abc', 'abd')).toBe(false);
  expect(equalInConstantTime('abc', 'abcd')).toBe(false);
  expect(equalInConstantTime('', '')).toBe(true);
});
