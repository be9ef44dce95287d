// JSON for hashes: the same text for equal values, and for no others.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson, isDeeperThan, orderedJson } from '../../../functions/lib/canonical-json';

/** The same value with the keys of every object in the opposite order. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, child]) => [key, reversed(child)] as const)
      .reverse(),
  );
}

describe('canonicalJson', () => {
  it('sorts keys and leaves lists as they are', () => {
    expect(canonicalJson({ b: [2, { d: null, c: 'é"' }, []], a: {} })).toBe(
      '{"a":{},"b":[2,{"c":"é\\"","d":null},[]]}',
    );
    expect(canonicalJson(JSON.parse('{"b": 1.0, "__proto__": 1e2}'))).toBe('{"__proto__":100,"b":1}');
  });

  it('says the value, whatever the order of its keys', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const plain: unknown = JSON.parse(JSON.stringify(value));
        expect(JSON.parse(canonicalJson(plain))).toEqual(plain);
        expect(canonicalJson(reversed(plain))).toBe(canonicalJson(plain));
      }),
      { numRuns: 300 },
    );
  });

  it('differs from JSON in the order of keys alone', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const plain: unknown = JSON.parse(JSON.stringify(value));
        expect(orderedJson(plain)).toBe(JSON.stringify(plain));
      }),
      { numRuns: 300 },
    );
    expect(orderedJson({ b: 1, a: 2 })).not.toBe(orderedJson({ a: 2, b: 1 }));
  });

  it('survives depth', () => {
    const text = `${'[{"a":'.repeat(100_000)}1${'}]'.repeat(100_000)}`;
    expect(canonicalJson(JSON.parse(text))).toBe(text);
  });
});

describe('isDeeperThan', () => {
  it.each([
    ['1', 0, false],
    ['[]', 0, true],
    ['[1,{"a":2}]', 1, true],
    ['[1,{"a":2}]', 2, false],
    ['{"a":[[]],"b":1}', 2, true],
    ['{"a":[[]],"b":1}', 3, false],
    [`${'['.repeat(400_000)}${']'.repeat(400_000)}`, 128, true],
  ])('%#', (text, maxDepth, isDeeper) => {
    expect(isDeeperThan(JSON.parse(text), maxDepth)).toBe(isDeeper);
  });
});
