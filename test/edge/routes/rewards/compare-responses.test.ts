// POST /v1/rewards/compare.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey, seenByBackend } from '../../../support/harness';
import { testJudging } from '../../../support/judging-tests';
import { testRewardDepth } from '../../../support/reward-depth-tests';
import { testRouteSecurity } from '../../../support/route-security-tests';

const path = '/v1/rewards/compare';
const body = { model: 'fake-judge', input: 'Which?', a: 'good 2', b: 'good 1' };

testRouteSecurity({
  operationId: 'compareResponses',
  method: 'POST',
  path: '/v1/rewards/compare',
  body,
  scope: 'rewards:write',
});

// One pair in two orders, at 10 tokens each.
testJudging({ path, body, inputTokens: 20 });

testRewardDepth({ path, body, numForwards: 2 });

const send = async (changes: Record<string, unknown> = {}) =>
  call(path, { key: await makeKey(), body: { ...body, ...changes } });

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

describe('200', () => {
  it('is a verdict of both orders', async () => {
    const response = await send({ metadata: { run: '7' } });
    expect(response.status).toBe(200);
    const probability = (sigmoid(1.5) + sigmoid(0.5)) / 2;
    expect(await response.json()).toEqual({
      id: expect.stringMatching(/^cmp_[0-9A-Z]{26}$/) as string,
      object: 'reward.comparison',
      created: expect.any(Number) as number,
      model: 'fake-judge',
      winner: 'a',
      probability_a: probability,
      margin: 2 * probability - 1,
      logit: Math.log(probability / (1 - probability)),
      consistent: true,
      position_bias_delta: sigmoid(1.5) - sigmoid(0.5),
      criteria: {},
      truncated: { input: false, a: false, b: false },
      usage: {
        input_tokens: 20,
        output_tokens: 0,
        total_tokens: 20,
        input_tokens_details: { cached_tokens: 8 },
      },
      metadata: { run: '7' },
    });
  });

  it('has more when it is asked for', async () => {
    const included = async (include: string[]) => (await send({ include })).json<Record<string, unknown>>();
    const [first, second] = [sigmoid(1.5), sigmoid(0.5)];
    expect(await included(['orders'])).toMatchObject({
      orders: [
        { first: 'a', probability_a: first },
        { first: 'b', probability_a: second },
      ],
    });
    expect(JSON.stringify(await included(['orders']))).not.toContain('logprobs');
    expect(await included(['tokens'])).toMatchObject({
      orders: [{ logprobs: { A: -0.5, B: -1.5 } }, { logprobs: { A: -0.5, B: -1.5 } }],
    });
    const probability = (first + second) / 2;
    expect(await included(['probabilities'])).toMatchObject({
      probabilities: { a: probability, b: 1 - probability },
    });
    expect(await included([])).not.toHaveProperty('probabilities');
  });

  it('is a tie for identical answers, and where the orders disagree', async () => {
    const verdict = async (changes: Record<string, unknown>) => (await send(changes)).json();
    expect(await verdict({ b: body.a })).toMatchObject({
      winner: 'tie',
      probability_a: 0.5,
      consistent: true,
    });
    // Closer than what is read first is preferred.
    expect(await verdict({ b: '1.8' })).toMatchObject({ winner: 'tie', consistent: false });
    expect(await verdict({ b: '1.8', allow_tie: false })).toMatchObject({ winner: 'a', consistent: false });
    expect(await verdict({ tie_margin: 0.9 })).toMatchObject({ winner: 'tie', consistent: true });
  });

  it('reads one order when one is asked for', async () => {
    const response = await send({ order: 'ba', include: ['orders'] });
    expect(await response.json()).toMatchObject({
      consistent: null,
      position_bias_delta: null,
      orders: [{ first: 'b' }],
      usage: { input_tokens: 10 },
    });
  });

  it('sends every default, and what is given in place of it', async () => {
    const seen = async (changes: Record<string, unknown>) => {
      const response = await send(changes);
      return (await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body;
    };
    const defaults = {
      model: 'fake-judge',
      input: [{ role: 'user', content: 'Which?' }],
      a: 'good 2',
      b: 'good 1',
      order: 'both',
      allow_tie: true,
      tie_margin: 0,
      criteria: [],
      average: 'probability',
      truncation: 'auto',
      early_exit: null,
      tenant: expect.stringMatching(/^prj_/) as string,
      end_user: '',
      priority: 0,
    };
    expect(await seen({})).toEqual(defaults);
    const names = [
      'order',
      'allow_tie',
      'tie_margin',
      'criteria',
      'average',
      'truncation',
      'user',
      'votes',
      'early_exit',
    ];
    expect(await seen(Object.fromEntries(names.map((name) => [name, null])))).toEqual(defaults);
    const given = {
      order: 'ab',
      allow_tie: false,
      tie_margin: 0.05,
      average: 'logit',
      truncation: 'disabled',
    };
    expect(await seen({ ...given, votes: 1 })).toEqual({ ...defaults, ...given });
  });

  it('takes a conversation, and joins its parts', async () => {
    const input = [
      { role: 'developer', content: 'Be brief.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
      { role: 'assistant', content: 'Hm.', tool_calls: [] },
      { role: 'user', content: '' },
    ];
    const response = await send({ input });
    expect((await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body).toMatchObject({
      input: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'a\nb' },
        { role: 'assistant', content: 'Hm.' },
        { role: 'user', content: '' },
      ],
    });
  });

  it('knows some criteria, and takes others with their description or as one text', async () => {
    const seen = async (criteria: unknown) => {
      const response = await send({ criteria });
      expect(response.status).toBe(200);
      const { criteria: byName } = await response.json<{ criteria: Record<string, number> }>();
      const { criteria: sent } =
        (await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body ?? {};
      return { names: Object.keys(byName), sent };
    };
    const known = ['helpfulness', 'harmlessness', 'correctness', 'relevance', 'conciseness', 'clarity'];
    const { names, sent } = await seen(known.map((name) => ({ name })));
    expect(names).toEqual(known);
    expect(sent).toEqual(
      known.map((name) => ({ name, description: expect.stringMatching(/^\w.*\.$/) as string, weight: 1 })),
    );
    const own = { name: 'Rhyme 2', description: 'It rhymes.', weight: 0.5 };
    expect((await seen([own, { ...own, name: 'constructor' }])).sent).toEqual([
      own,
      { ...own, name: 'constructor' },
    ]);
    expect((await seen([{ name: 'clarity', description: 'No jargon.' }])).sent).toEqual([
      { name: 'clarity', description: 'No jargon.', weight: 1 },
    ]);
    expect((await seen('Prefers verse.')).sent).toEqual([
      { name: 'criteria', description: 'Prefers verse.', weight: 1 },
    ]);
  });

  it('says what was cut, or refuses to cut and names it', async () => {
    const long = '1 '.repeat(50_000);
    expect(await (await send({ b: long })).json()).toMatchObject({
      truncated: { input: false, a: false, b: true },
    });
    const refused = await send({ b: long, truncation: 'disabled' });
    expect(refused.status).toBe(400);
    expect(await errorOf(refused)).toMatchObject({ code: 'context_length_exceeded', param: 'b' });
  });
});

const criterion = (changes: Record<string, unknown>) => ({ criteria: [{ name: 'clarity' }, changes] });

describe('400', () => {
  it.each<[Record<string, unknown>, string, string]>([
    [{ a: undefined }, 'missing_required_parameter', 'a'],
    [{ b: 5 }, 'invalid_type', 'b'],
    [{ input: undefined }, 'missing_required_parameter', 'input'],
    [{ input: 5 }, 'invalid_type', 'input'],
    [{ input: [] }, 'invalid_value', 'input'],
    [{ input: [{ role: 'user' }] }, 'missing_required_parameter', 'input[0].content'],
    [{ input: [{ role: 'wizard', content: 'a' }] }, 'invalid_value', 'input[0].role'],
    [
      {
        input: [
          {
            role: 'assistant',
            content: null,
            tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }],
          },
          { role: 'tool', content: 'x', tool_call_id: 'c' },
        ],
      },
      'unsupported_value',
      'input[0].tool_calls',
    ],
    [{ order: 'both ways' }, 'invalid_value', 'order'],
    [{ allow_tie: 'yes' }, 'invalid_type', 'allow_tie'],
    [{ tie_margin: 1.1 }, 'invalid_value', 'tie_margin'],
    [{ tie_margin: -0.1 }, 'invalid_value', 'tie_margin'],
    [{ average: 'median' }, 'invalid_value', 'average'],
    [{ votes: 0 }, 'invalid_value', 'votes'],
    [{ votes: 3 }, 'unsupported_value', 'votes'],
    [{ include: ['rationale'] }, 'unsupported_value', 'include[0]'],
    [{ include: ['orders', 'everything'] }, 'invalid_value', 'include[1]'],
    [{ criteria: '' }, 'invalid_value', 'criteria'],
    [{ criteria: [] }, 'invalid_value', 'criteria'],
    [{ criteria: 5 }, 'invalid_type', 'criteria'],
    [{ criteria: ['clarity'] }, 'invalid_type', 'criteria[0]'],
    [{ criteria: Array.from({ length: 17 }, () => ({ name: 'clarity' })) }, 'invalid_value', 'criteria'],
    [criterion({}), 'missing_required_parameter', 'criteria[1].name'],
    [criterion({ name: 'beauty' }), 'missing_required_parameter', 'criteria[1].description'],
    [criterion({ name: 'toString' }), 'missing_required_parameter', 'criteria[1].description'],
    [criterion({ name: '__proto__', description: 'x' }), 'invalid_value', 'criteria[1].name'],
    [criterion({ name: 'clarity' }), 'invalid_value', 'criteria[1].name'],
    [criterion({ name: 'relevance', weight: 0 }), 'invalid_value', 'criteria[1].weight'],
    [criterion({ name: 'relevance', weight: -1 }), 'invalid_value', 'criteria[1].weight'],
    [criterion({ name: 'relevance', weight: 'NaN' }), 'invalid_type', 'criteria[1].weight'],
    [criterion({ name: 'relevance', color: 'red' }), 'unknown_parameter', 'criteria[1].color'],
    [{ metadata: { k: 5 } }, 'invalid_type', 'metadata.k'],
  ])('%j is %s at %s', async (changes, code, param) => {
    const response = await send(changes);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });

  it.each([
    ['NaN', 'invalid_json', null],
    ['1e999', 'invalid_type', 'criteria[0].weight'],
  ])('a weight of %s is %s', async (weight, code, param) => {
    const text = JSON.stringify({ ...body, criteria: [{ name: 'clarity', weight: '@' }] });
    const response = await call(path, {
      method: 'POST',
      key: await makeKey(),
      body: text.replace('"@"', weight),
    });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });

  it('lists the known criteria, and says why there are no rationales', async () => {
    const unknown = await errorOf(await send({ criteria: [{ name: 'beauty' }] }));
    expect(unknown.message).toContain(
      'helpfulness, harmlessness, correctness, relevance, conciseness, clarity',
    );
    for (const changes of [{ votes: 2 }, { include: ['rationale'] }]) {
      expect((await errorOf(await send(changes))).message).toContain('cannot write rationales');
    }
  });
});
