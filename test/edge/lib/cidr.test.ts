// Addresses and blocks: what is one, what lies in which, and that both spellings of an IPv4 address are the same.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isInAny, isInBlock, parseAddress, parseBlock } from '../../../functions/lib/cidr';

const v4 = fc.tuple(...Array.from({ length: 4 }, () => fc.nat(255))).map((parts) => parts.join('.'));
const v6 = fc
  .tuple(...Array.from({ length: 8 }, () => fc.nat(0xffff)))
  .map((groups) => groups.map((group) => group.toString(16)).join(':'))
  .filter((text) => !text.startsWith('0:0:0:0:0:ffff:'));

/** The block of `prefix` bits that an address lies in; worked out on text, by another way than the parser's. */
function blockOf(address: string, prefix: number): string {
  const isV4 = address.includes('.');
  const parts = address.split(isV4 ? '.' : ':');
  const [width, base] = isV4 ? ([8, 10] as const) : ([16, 16] as const);
  const bits = parts.map((part) => Number.parseInt(part, base).toString(2).padStart(width, '0')).join('');
  const kept = bits.slice(0, prefix).padEnd(bits.length, '0');
  const masked = parts.map((_, at) =>
    Number.parseInt(kept.slice(at * width, (at + 1) * width), 2).toString(base),
  );
  return `${masked.join(isV4 ? '.' : ':')}/${prefix}`;
}

describe('a list of addresses and blocks', () => {
  it.each([
    ['203.0.113.7', ['203.0.113.0/24'], true],
    ['203.0.114.7', ['203.0.113.0/24'], false],
    ['203.0.113.7', ['203.0.113.7'], true],
    ['203.0.113.8', ['203.0.113.7/32'], false],
    ['198.51.100.1', ['203.0.113.0/24', '198.51.100.0/25'], true],
    ['8.8.8.8', ['0.0.0.0/0'], true],
    ['2001:db8::1', ['2001:db8::/32'], true],
    ['2001:db9::1', ['2001:db8::/32'], false],
    ['2001:DB8:0:0:0:0:0:1', ['2001:db8::1'], true],
    ['::', ['::/0'], true],
    ['::1', ['::1/128'], true],
    // An IPv4-mapped address is the IPv4 address.
    ['::ffff:203.0.113.7', ['203.0.113.0/24'], true],
    ['::ffff:cb00:7107', ['203.0.113.0/24'], true],
    ['203.0.113.7', ['::ffff:203.0.113.0/120'], true],
    ['8.8.8.8', ['::ffff:0:0/96'], true],
    // The versions do not hold each other.
    ['8.8.8.8', ['::/0'], false],
    ['::ffff:8.8.8.8', ['::/0'], false],
    ['2001:db8::1', ['0.0.0.0/0'], false],
    ['::cb00:7107', ['203.0.113.0/24'], false],
    // What cannot be read allows nothing.
    ['', ['0.0.0.0/0', '::/0'], false],
    ['8.8.8.8', ['nonsense', '8.8.8.8/x'], false],
  ])('%s in %j: %s', (address, list, expected) => {
    expect(isInAny(address, list)).toBe(expected);
  });

  it.each([
    '',
    ' 8.8.8.8',
    '8.8.8',
    '8.8.8.8.8',
    '08.8.8.8',
    '8.8.8.256',
    '8.8.8.-1',
    '0x8.8.8.8',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '12345::',
    'g::',
    'fe80::1%eth0',
    '1.2.3.4::',
    '::1.2.3.4:5',
    '[::1]',
    '1'.repeat(200),
  ])('%j is no address', (text) => expect(parseAddress(text)).toBeUndefined());

  it.each([
    '8.8.8.8/33',
    '8.8.8.8/-1',
    '8.8.8.8/08',
    '8.8.8.8/',
    '8.8.8.8/8/8',
    '::/129',
    '::/1e1',
    // Bits beyond the prefix: most likely a slip.
    '10.0.0.1/8',
    '2001:db8::1/32',
  ])('%j is no block', (text) => expect(parseBlock(text)).toBeUndefined());

  it('has every address in its own block, and in every wider one', () => {
    fc.assert(
      fc.property(fc.oneof(v4, v6), fc.nat(128), (text, number) => {
        const address = parseAddress(text)!;
        const widest = text.includes('.') ? 32 : 128;
        expect(isInBlock(address, parseBlock(`${text}/${widest}`)!)).toBe(true);
        for (let prefix = number % (widest + 1); prefix >= 0; prefix--) {
          expect(isInBlock(address, parseBlock(blockOf(text, prefix))!)).toBe(true);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('has an address in a block exactly when their first bits are the same', () => {
    fc.assert(
      fc.property(v4, v4, fc.nat(32), (one, other, prefix) => {
        const isSame = blockOf(one, prefix) === blockOf(other, prefix);
        expect(isInAny(one, [blockOf(other, prefix)])).toBe(isSame);
      }),
    );
  });

  it('reads an IPv4 address and its mapped form alike', () => {
    fc.assert(
      fc.property(v4, (text) => {
        expect(parseAddress(`::ffff:${text}`)).toBe(parseAddress(text));
      }),
    );
  });
});
