// POST /v1/rewards/score.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey, seenByBackend } from '../../../support/harness';
import { testJudging } from '../../../support/judging-tests';
import { testRewardDepth } from '../../../support/reward-depth-tests';
import { testRouteSecurity } from '../../../support/route-security-tests';

const path = '/v1/rewards/score';
const body = { model: 'fake-judge', input: 'Which?', responses: ['0'] };

testRouteSecurity({
  operationId: 'scoreResponses',
  method: 'POST',
  path: '/v1/rewards/score',
  body,
  scope: 'rewards:write',
});

// One answer against the anchor in two orders, at 10 tokens each.
testJudging({ path, body, inputTokens: 20 });

testRewardDepth({ path, body, numForwards: 2 });

const send = async (changes: Record<string, unknown> = {}) =>
  call(path, { key: await makeKey(), body: { ...body, ...changes } });

const seenBody = async (response: Response) =>
  (await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body;

interface Scores {
  against: string;
  data: { score: number; id: string | null }[];
}

describe('200', () => {
  it('scores one answer against the anchor', async () => {
    const response = await send();
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      id: expect.stringMatching(/^rwd_[0-9A-Z]{26}$/) as string,
      object: 'reward.score',
      created: expect.any(Number) as number,
      model: 'fake-judge',
      against: 'anchor',
      // A text without a number is worth 0, and so is the anchor.
      data: [{ index: 0, id: null, score: 0.5, logit: 0, criteria: {}, truncated: false, input_tokens: 20 }],
      usage: {
        input_tokens: 20,
        output_tokens: 0,
        total_tokens: 20,
        input_tokens_details: { cached_tokens: 8 },
      },
    });
    expect(await seenBody(response)).toMatchObject({ responses: ['0'], against: 'anchor', reference: null });
  });

  it('scores several against each other, in the order of the request, with their ids', async () => {
    const response = await send({ responses: ['1', { id: 'x', content: '3' }, ''] });
    const { against, data } = await response.json<Scores>();
    expect([against, data.map(({ id }) => id)]).toEqual(['others', [null, 'x', null]]);
    expect(data[1]!.score).toBeGreaterThan(data[0]!.score);
    expect(data[0]!.score).toBeGreaterThan(data[2]!.score);
    expect(await seenBody(response)).toMatchObject({ responses: ['1', '3', ''], against: 'others' });
  });

  it('scores any number against a reference, also an empty one', async () => {
    for (const reference of ['2', '']) {
      for (const responses of [['1'], ['1', '3']]) {
        const response = await send({ responses, reference });
        expect(await response.json()).toMatchObject({ against: 'reference' });
        expect(await seenBody(response)).toMatchObject({ against: 'reference', reference });
      }
    }
  });

  it('has the scale that is asked for', async () => {
    const score = async (changes: Record<string, unknown>) =>
      (await (await send({ responses: ['4'], ...changes })).json<Scores>()).data[0]?.score;
    const unit = (1 / (1 + Math.exp(-4.5)) + 1 / (1 + Math.exp(-3.5))) / 2;
    expect(await score({})).toBe(unit);
    expect(await score({ scale: 'unit' })).toBe(unit);
    expect(await score({ scale: 'logit' })).toBe(Math.log(unit / (1 - unit)));
    expect(await score({ scale: 'raw' })).toBe(4);
    const both = await (await send({ responses: ['4'], scale: 'raw', include: ['probabilities'] })).json();
    expect(both).toMatchObject({ data: [{ score: 4, probability: unit }] });
  });

  it('takes 128 answers', async () => {
    const response = await send({ responses: Array.from({ length: 128 }, (_, i) => String(i)) });
    expect((await response.json<Scores>()).data).toHaveLength(128);
  });
});

describe('400', () => {
  it.each<[Record<string, unknown>, string, string]>([
    [{ responses: undefined }, 'missing_required_parameter', 'responses'],
    [{ responses: [] }, 'invalid_value', 'responses'],
    [{ responses: 'one' }, 'invalid_type', 'responses'],
    [{ responses: Array.from({ length: 129 }, () => 'a') }, 'invalid_value', 'responses'],
    [{ responses: ['a', 5] }, 'invalid_type', 'responses[1]'],
    [{ responses: ['a', { id: 'b' }] }, 'missing_required_parameter', 'responses[1].content'],
    [{ responses: ['a', { id: '', content: 'b' }] }, 'invalid_value', 'responses[1].id'],
    [{ responses: ['a', { id: 'b', content: 'b', c: 1 }] }, 'unknown_parameter', 'responses[1].c'],
    [{ reference: ['a'] }, 'invalid_type', 'reference'],
    [{ scale: 'percent' }, 'invalid_value', 'scale'],
    [{ include: ['orders'] }, 'unsupported_value', 'include[0]'],
    [{ votes: 2 }, 'unsupported_value', 'votes'],
  ])('%j is %s at %s', async (changes, code, param) => {
    const response = await send(changes);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });

  it('names the answer that is too long when nothing may be cut', async () => {
    const responses = ['a', 'b', 'c', 'x'.repeat(100_000)];
    const refused = await send({ responses, truncation: 'disabled' });
    expect(refused.status).toBe(400);
    expect(await errorOf(refused)).toMatchObject({ code: 'context_length_exceeded', param: 'responses[3]' });
    expect(await (await send({ responses })).json()).toMatchObject({
      data: [{}, {}, { truncated: false }, { truncated: true }],
    });
  });
});
