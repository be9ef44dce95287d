// POST /v1/score.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey, seenByBackend } from '../../../support/harness';
import { testJudging } from '../../../support/judging-tests';
import { testRouteSecurity } from '../../../support/route-security-tests';

const path = '/v1/score';
const body = { model: 'fake-judge', text_1: 'Which?', text_2: ['1', '0'] };

testRouteSecurity({
  operationId: 'scoreTexts',
  method: 'POST',
  path: '/v1/score',
  body,
  scope: 'rewards:write',
});

// Two texts against the anchor in two orders, at 10 tokens each.
testJudging({ path, body, inputTokens: 40 });

const send = async (changes: Record<string, unknown> = {}, given: Record<string, unknown> = body) =>
  call(path, { key: await makeKey(), body: { ...given, ...changes } });

const scoresOf = async (response: Response) =>
  (await response.json<{ data: { score: number }[] }>()).data.map(({ score }) => score);

const unit = (goodness: number) =>
  (1 / (1 + Math.exp(-goodness - 0.5)) + 1 / (1 + Math.exp(-goodness + 0.5))) / 2;

describe('POST /v1/score', () => {
  it('returns 200 for one text with many, in their order', async () => {
    const response = await send();
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      id: expect.stringMatching(/^rwd_/) as string,
      object: 'list',
      created: expect.any(Number) as number,
      model: 'fake-judge',
      data: [
        { index: 0, object: 'score', score: unit(1) },
        { index: 1, object: 'score', score: 0.5 },
      ],
      usage: {
        prompt_tokens: 40,
        completion_tokens: 0,
        total_tokens: 40,
        prompt_tokens_details: { cached_tokens: 16 },
      },
    });
    expect((await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body).toMatchObject({
      input: [{ role: 'user', content: 'Which?' }],
      responses: ['1', '0'],
      against: 'anchor',
    });
  });

  it('scores pair by pair, and adds up what was read', async () => {
    const key = await makeKey({ limits: { budget_micros: 1e9 } });
    const pairs = { text_1: ['a', 'b', 'c'], text_2: ['1', '2', '3'] };
    const response = await call(path, { key, body: { ...body, ...pairs } });
    const { data, usage } = await response.json<{ data: { score: number }[]; usage: object }>();
    expect(data.map(({ score }) => score)).toEqual([unit(1), unit(2), unit(3)]);
    expect(usage).toMatchObject({ total_tokens: 60 });
    const { budget } = await (
      await call('/v1/limits', { key })
    ).json<{ budget: { settled_micros: number } }>();
    expect(budget.settled_micros).toBe(60);
  });

  it.each([
    ['queries', 'documents'],
    ['data_1', 'items'],
    ['text_1', 'data_2'],
  ])('takes %s and %s, as one text or as lists', async (first, second) => {
    for (const [a, b] of [
      ['q', '2'],
      [['q'], '2'],
      ['q', ['2']],
    ]) {
      const response = await send({ [first]: a, [second]: b }, { model: 'fake-judge' });
      expect(await scoresOf(response)).toEqual([unit(2)]);
    }
  });

  it('gives log-odds without activation', async () => {
    const response = await send({ use_activation: false });
    expect(await scoresOf(response)).toEqual([Math.log(unit(1) / (1 - unit(1))), 0]);
  });

  it.each([
    [{ max_tokens_per_doc: 3 }, [null, 3, null], unit(0)],
    [{ max_tokens_per_doc: 4, max_tokens_per_query: 2 }, [2, 4, null], unit(3)],
    [{ truncate_prompt_tokens: 100 }, [null, null, 100], unit(3)],
    [{ truncate_prompt_tokens: -1 }, [null, null, null], unit(3)],
  ])('reads as much as it is told: %j', async (changes, [input, response, prompt], score) => {
    const answer = await send({ text_2: 'no 3', ...changes });
    expect(await scoresOf(answer)).toEqual([score]);
    expect((await seenByBackend(answer.headers.get('x-request-id') ?? ''))?.body).toMatchObject({
      max_input_tokens: input,
      max_response_tokens: response,
      max_prompt_tokens: prompt,
    });
  });

  const many = (count: number) => Array.from({ length: count }, () => 'a');

  it.each<[Record<string, unknown>, string, string]>([
    [{ text_1: undefined }, 'missing_required_parameter', 'text_1'],
    [{ text_2: null }, 'missing_required_parameter', 'text_2'],
    [{ documents: ['a'] }, 'invalid_value', 'documents'],
    [{ text_2: [] }, 'invalid_value', 'text_2'],
    [{ text_2: ['a', 5] }, 'invalid_type', 'text_2[1]'],
    [{ text_1: ['a', 'b', 'c'] }, 'invalid_value', 'text_2'],
    [{ text_1: many(65), text_2: many(65) }, 'invalid_value', 'text_1'],
    [{ text_2: many(1001) }, 'invalid_value', 'text_2'],
    [{ max_tokens_per_doc: 0 }, 'invalid_value', 'max_tokens_per_doc'],
    [{ max_tokens_per_query: 1.5 }, 'invalid_type', 'max_tokens_per_query'],
    [{ truncate_prompt_tokens: 0 }, 'invalid_value', 'truncate_prompt_tokens'],
    [{ truncate_prompt_tokens: -2 }, 'invalid_value', 'truncate_prompt_tokens'],
    [{ truncate_prompt_tokens: 10 }, 'invalid_value', 'truncate_prompt_tokens'],
    [{ truncation_side: 'left' }, 'unsupported_parameter', 'truncation_side'],
  ])('returns 400 for %j', async (changes, code, param) => {
    const response = await send(changes);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });

  const long = 'x'.repeat(5000);

  it.each([
    [{ text_2: long }, 'text_2'],
    [{ text_2: ['a', long] }, 'text_2[1]'],
    [{ text_1: long }, 'text_1'],
    [{ text_1: [long] }, 'text_1[0]'],
    [{ text_1: ['a', 'b'], text_2: ['a', long] }, 'text_2[1]'],
    [{ text_1: ['a', long] }, 'text_1[1]'],
  ])('names what is too long by the name that it was given', async (changes, param) => {
    const response = await send({ ...changes, truncation: 'disabled' });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code: 'context_length_exceeded', param });
  });
});
