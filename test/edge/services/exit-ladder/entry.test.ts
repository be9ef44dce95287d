// A kept answer: opened exactly as it was sealed, and anything else is no answer.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hmacSha256, toHex } from '../../../../functions/lib/hash';
import { openEntry, sealEntry } from '../../../../functions/services/exit-ladder/entry';

const SECRET = 'a secret of tests with 32 characters';
const HASH = 'a'.repeat(64);
const encoder = new TextEncoder();
const answer = { headers: { 'content-type': 'application/json' }, body: encoder.encode('{"a":\n"é"}') };
const seal = () => sealEntry(SECRET, HASH, answer, 1000);

/** What somebody could write who knows the secret, but another form. */
async function sealed(head: object, body: string): Promise<Uint8Array> {
  const rest = `${JSON.stringify(head)}\n${body}`;
  return encoder.encode(`${toHex(await hmacSha256(SECRET, `cached answer\n${rest}`))}\n${rest}`);
}

describe('an entry', () => {
  it('gives back any answer', async () => {
    const answers = fc.record({
      headers: fc.dictionary(fc.stringMatching(/^[a-z][a-z-]{0,20}$/), fc.string(), {
        noNullPrototype: true,
      }),
      body: fc.uint8Array({ maxLength: 300 }),
    });
    await fc.assert(
      fc.asyncProperty(answers, fc.nat(), async (given, keptAtMs) => {
        const opened = await openEntry(SECRET, HASH, await sealEntry(SECRET, HASH, given, keptAtMs));
        expect(opened).toEqual({ ...given, keptAtMs });
      }),
      { numRuns: 200 },
    );
  });

  it('with any other byte is none', async () => {
    const bytes = await seal();
    for (let at = 0; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      // The line feed behind the seal says nothing.
      if (at !== 64) expect([at, await openEntry(SECRET, HASH, changed)]).toEqual([at, undefined]);
    }
  });

  it('of any other length is none', async () => {
    const bytes = await seal();
    for (let length = 0; length < bytes.length; length++) {
      expect(await openEntry(SECRET, HASH, bytes.subarray(0, length))).toBeUndefined();
    }
    expect(await openEntry(SECRET, HASH, new Uint8Array([...bytes, 10]))).toBeUndefined();
  });

  it('of another key or secret is none', async () => {
    expect(await openEntry(SECRET, 'b'.repeat(64), await seal())).toBeUndefined();
    expect(await openEntry(`${SECRET}!`, HASH, await seal())).toBeUndefined();
  });

  it.each([
    ['that is well', {}, true],
    ['of another version', { version: 2 }, false],
    ['of another key', { key: 'b'.repeat(64) }, false],
    ['that is too short for its length', { length: 4 }, false],
    ['that is too long for its length', { length: 2 }, false],
    ['with a field that nobody knows', { more: 1 }, false],
    ['without a time', { kept_at_ms: undefined }, false],
  ])('%s, rightly sealed: %j', async (_, changes, isGood) => {
    const head = { version: 1, key: HASH, kept_at_ms: 1, length: 3, headers: {}, ...changes };
    const opened = await openEntry(SECRET, HASH, await sealed(head, 'abc'));
    expect(opened !== undefined).toBe(isGood);
  });

  it('of any bytes is none', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        expect(await openEntry(SECRET, HASH, bytes)).toBeUndefined();
      }),
      { numRuns: 200 },
    );
  });
});
