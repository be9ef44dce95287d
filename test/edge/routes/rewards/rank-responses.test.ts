// POST /v1/rewards/rank.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey, seenByBackend } from '../../../support/harness';
import { testJudging } from '../../../support/judging-tests';
import { testRewardDepth } from '../../../support/reward-depth-tests';
import { testRouteSecurity } from '../../../support/route-security-tests';

const path = '/v1/rewards/rank';
const body = { model: 'fake-judge', input: 'Which?', responses: ['1', { id: 'best', content: '3' }, '2'] };

testRouteSecurity({
  operationId: 'rankResponses',
  method: 'POST',
  path: '/v1/rewards/rank',
  body,
  scope: 'rewards:write',
});

// Three pairs in two orders, at 10 tokens each.
testJudging({ path, body, inputTokens: 60 });

testRewardDepth({ path, body, numForwards: 6 });

const send = async (changes: Record<string, unknown> = {}) =>
  call(path, { key: await makeKey(), body: { ...body, ...changes } });

describe('200', () => {
  it('takes a body of 7 MiB', async () => {
    const responses = Array.from({ length: 64 }, (_, index) => `${index} ${'x'.repeat(112 * 1024)}`);
    const response = await send({ responses });
    expect(response.status).toBe(200);
    const answer = await response.json<{ best_index: number; results: { truncated: boolean }[] }>();
    expect(answer.best_index).toBe(63);
    expect(answer.results.every(({ truncated }) => truncated)).toBe(true);
  });

  it('is the order, best first, and readable as a rerank result', async () => {
    const response = await send();
    expect(response.status).toBe(200);
    const score = 1 / (1 + Math.exp(-3));
    const answer = await response.json<{ results: { index: number; id: string | null }[] }>();
    expect(answer).toMatchObject({
      id: expect.stringMatching(/^rnk_[0-9A-Z]{26}$/) as string,
      object: 'reward.ranking',
      model: 'fake-judge',
      method: 'round_robin',
      comparisons: 3,
      best_index: 1,
      is_certain: true,
      cycles: 0,
      usage: { input_tokens: 60, output_tokens: 0, total_tokens: 60 },
    });
    expect(answer.results[0]).toEqual({
      index: 1,
      id: 'best',
      rank: 1,
      score,
      relevance_score: score,
      strength: 3,
      standard_error: 0.5,
      win_rate: 1,
      comparisons: 2,
      truncated: false,
    });
    expect(answer.results.map(({ index, id }) => [index, id])).toEqual([
      [1, 'best'],
      [2, null],
      [0, null],
    ]);
  });

  it('gives as many results as are asked for', async () => {
    for (const [topN, count] of [
      [1, 1],
      [99, 3],
    ]) {
      const { results } = await (await send({ top_n: topN })).json<{ results: unknown[] }>();
      expect(results).toHaveLength(count ?? 0);
    }
  });

  it('sends method and budget', async () => {
    const seen = async (changes: Record<string, unknown>) => {
      const response = await send(changes);
      return (await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body;
    };
    expect(await seen({})).toMatchObject({
      method: 'auto',
      max_comparisons: null,
      responses: ['1', '3', '2'],
    });
    expect(await seen({ method: 'scan', max_comparisons: 2 })).toMatchObject({
      method: 'scan',
      max_comparisons: 2,
    });
  });

  it('takes 64 answers, and says which were cut', async () => {
    const responses = Array.from({ length: 63 }, (_, i) => String(i));
    const response = await send({ responses: [...responses, `99 ${'x'.repeat(5000)}`], top_n: 2 });
    expect(await response.json()).toMatchObject({
      results: [
        { index: 63, truncated: true },
        { index: 62, truncated: false },
      ],
    });
  });
});

describe('400', () => {
  it.each<[Record<string, unknown>, string, string]>([
    [{ responses: undefined }, 'missing_required_parameter', 'responses'],
    [{ responses: [] }, 'invalid_value', 'responses'],
    [{ responses: ['a'] }, 'invalid_value', 'responses'],
    [{ responses: Array.from({ length: 65 }, () => 'a') }, 'invalid_value', 'responses'],
    [{ responses: ['a', null] }, 'invalid_type', 'responses[1]'],
    [{ method: 'bubble' }, 'invalid_value', 'method'],
    [{ top_n: 0 }, 'invalid_value', 'top_n'],
    [{ max_comparisons: 0 }, 'invalid_value', 'max_comparisons'],
    [{ max_comparisons: 1.5 }, 'invalid_type', 'max_comparisons'],
    [{ include: ['tokens'] }, 'unsupported_value', 'include[0]'],
    [{ scale: 'unit' }, 'unknown_parameter', 'scale'],
  ])('%j is %s at %s', async (changes, code, param) => {
    const response = await send(changes);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });

  it('says how many answers there may be', async () => {
    const responses = Array.from({ length: 65 }, () => 'a');
    expect((await errorOf(await send({ responses }))).message).toContain('64');
  });
});
