// The most that a reward request can read, by hand.
import { describe, expect, it } from 'vitest';
import { mostCompared, mostRanked, mostScored } from '../../../../functions/routes/rewards/reward-estimate';

const CONTEXT = 8192;
// ["Hi",null] has 11 bytes, and 512 tokens are for the template and the anchor.
const REST = 11 + 512;
const input = 'Hi';

describe('mostCompared', () => {
  it('is the pair twice, once for every criterion', () => {
    // Each of "abcd" and "ab" counts as the longer one, which has 6 bytes with its quotes.
    expect(mostCompared({ input, a: 'abcd', b: 'ab' }, CONTEXT)).toBe(2 * (REST + 12));
    const criteria = [{ name: 'a' }, { name: 'b' }];
    // ["Hi",[{"name":"a"},{"name":"b"}]] has 34 bytes.
    expect(mostCompared({ input, a: 'abcd', b: 'ab', criteria }, CONTEXT)).toBe(2 * 2 * (34 + 512 + 12));
  });

  it('never goes past the context in one prompt', () => {
    expect(mostCompared({ input, a: 'x'.repeat(9000), b: '' }, CONTEXT)).toBe(2 * CONTEXT);
  });
});

describe('mostScored', () => {
  it('is each answer twice when there is one, or a reference', () => {
    // ["Hi",null,null] has 16 bytes, ["Hi",null,"ref"] 17.
    expect(mostScored({ input, responses: ['a'] }, CONTEXT)).toBe(2 * (16 + 512 + 3));
    const both = { input, responses: ['a', 'abc'], reference: 'ref' };
    expect(mostScored(both, CONTEXT)).toBe(2 * (17 + 512 + 3) + 2 * (17 + 512 + 5));
  });

  it('is up to 8 others for each answer when there are several', () => {
    const responses = (count: number) => Array.from({ length: count }, () => 'a');
    expect(mostScored({ input, responses: responses(3) }, CONTEXT)).toBe(2 * 3 * (REST + 6));
    expect(mostScored({ input, responses: responses(20) }, CONTEXT)).toBe(2 * 20 * 4 * (REST + 6));
  });
});

describe('mostRanked', () => {
  it('is all pairs twice, or as many as may be compared', () => {
    const body = { input, responses: ['a', 'b', 'c', 'd'] };
    expect(mostRanked(body, CONTEXT)).toBe(2 * 6 * (REST + 6));
    expect(mostRanked({ ...body, max_comparisons: 3 }, CONTEXT)).toBe(2 * 3 * (REST + 6));
    expect(mostRanked({ ...body, method: 'scan' }, CONTEXT)).toBe(2 * 3 * (REST + 6));
    expect(mostRanked({ ...body, max_comparisons: 99 }, CONTEXT)).toBe(2 * 6 * (REST + 6));
  });
});

it.each([
  {},
  { responses: 5 },
  { responses: [], method: 'scan' },
  { responses: [], criteria: [] },
  { max_comparisons: 'x', responses: [1] },
])('is a bounded number for a body that is not valid: %j', (body) => {
  for (const most of [mostCompared, mostScored, mostRanked]) {
    const tokens = most(body, CONTEXT);
    expect(tokens).toBeGreaterThanOrEqual(0);
    expect(tokens).toBeLessThanOrEqual(2 * CONTEXT);
  }
});
