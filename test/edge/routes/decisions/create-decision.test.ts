// POST /v1/decisions.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey, seenByBackend } from '../../../support/harness';
import { testJudging } from '../../../support/judging-tests';
import { testRouteSecurity } from '../../../support/route-security-tests';

const path = '/v1/decisions';
const predicate = { type: 'predicate', name: 'unhappy', instructions: 'Is the customer unhappy?' };
// The fake backend weighs a label with one more than the first number in it.
const choice = {
  type: 'choice',
  instructions: 'What is it about?',
  choices: [{ value: 'parcel' }, { value: true, description: 'a 2' }],
};
const score = {
  type: 'score',
  name: 'anger',
  instructions: 'How angry?',
  levels: [{ label: 'calm' }, { label: 'cross', description: 'raises 3 voices' }, { label: 'furious' }],
};
const body = { model: 'fake-judge', input: 'It came late.', questions: [predicate, choice, score] };

testRouteSecurity({
  operationId: 'createDecision',
  method: 'POST',
  path: '/v1/decisions',
  body,
  scope: 'rewards:write',
});

// Three questions, at 10 tokens each.
testJudging({ path, body, inputTokens: 30 });

const send = async (changes: Record<string, unknown> = {}) =>
  call(path, { key: await makeKey(), body: { ...body, ...changes } });

const seenBody = async (response: Response) =>
  (await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body;

describe('200', () => {
  it('has an answer of its kind for every question', async () => {
    const response = await send();
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      model: 'fake-judge',
      answers: [
        { type: 'predicate', name: 'unhappy', probability: 0.5 },
        {
          type: 'choice',
          name: null,
          choice: true,
          confidence: 0.75,
          probabilities: [
            { value: 'parcel', probability: 0.25 },
            { value: true, probability: 0.75 },
          ],
        },
        {
          type: 'score',
          name: 'anger',
          // 1/6 × 0 + 4/6 × 1 + 1/6 × 2
          score: expect.closeTo(1, 12) as number,
          confidence: 4 / 6,
          probabilities: [
            { value: 0, label: 'calm', probability: 1 / 6 },
            { value: 1, label: 'cross', probability: 4 / 6 },
            { value: 2, label: 'furious', probability: 1 / 6 },
          ],
        },
      ],
      truncated: false,
      usage: {
        input_tokens: 30,
        input_tokens_details: { cached_tokens: 12, cache_write_tokens: 0 },
        output_tokens: 0,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: 30,
      },
    });
    expect(await seenBody(response)).toEqual({
      model: 'fake-judge',
      input: [{ role: 'user', content: 'It came late.' }],
      questions: [
        { text: 'Is the customer unhappy?', labels: ['Yes', 'No'] },
        { text: 'What is it about?', labels: ['parcel', 'true: a 2'] },
        { text: 'How angry?', labels: ['calm', 'cross: raises 3 voices', 'furious'] },
      ],
      truncation: 'auto',
      tenant: expect.stringMatching(/^prj_/) as string,
      end_user: '',
      priority: 0,
    });
  });

  it('reads messages and parts of text and JSON', async () => {
    const input = [
      { role: 'developer', content: 'Be strict.' },
      {
        type: 'message',
        role: 'user',
        content: [
          { type: 'input_text', text: 'a', prompt_cache_breakpoint: { mode: 'explicit' } },
          { type: 'input_json', data: { n: [1] } },
        ],
      },
      {
        role: 'assistant',
        phase: 'final_answer',
        content: [
          { type: 'output_text', text: 'b' },
          { type: 'refusal', refusal: 'c' },
        ],
      },
    ];
    const instructions = [
      { type: 'input_text', text: 'Is it' },
      { type: 'input_json', data: [{ so: true }] },
    ];
    const response = await send({ input, questions: [{ type: 'predicate', instructions }] });
    expect(response.status).toBe(200);
    expect(await seenBody(response)).toMatchObject({
      input: [
        { role: 'system', content: 'Be strict.' },
        { role: 'user', content: 'a\n{"n":[1]}' },
        { role: 'assistant', content: 'b\nc' },
      ],
      questions: [{ text: 'Is it\n[{"so":true}]' }],
    });
  });

  it('takes 400 questions, and a text beside the boolean that reads the same', async () => {
    const both = { ...choice, choices: [{ value: 'true' }, { value: true }] };
    const response = await send({ questions: Array.from({ length: 400 }, () => both) });
    expect(response.status).toBe(200);
    const { answers } = await response.json<{ answers: unknown[] }>();
    expect(answers).toHaveLength(400);
    expect(answers[0]).toMatchObject({ choice: 'true', confidence: 0.5 });
  });

  it('accepts what the client of OpenAI can send along', async () => {
    const extras = {
      safety_identifier: 's',
      prompt_cache_key: 'k',
      prompt_cache_options: { mode: 'implicit' },
    };
    expect((await send(extras)).status).toBe(200);
    expect((await send({ ...extras, prompt_cache_options: null, user: null })).status).toBe(200);
  });

  it('says when the input was cut', async () => {
    const input = 'x'.repeat(5000);
    expect(await (await send({ input })).json()).toMatchObject({ truncated: true });
    expect(await errorOf(await send({ input, truncation: 'disabled' }))).toMatchObject({
      code: 'context_length_exceeded',
      param: 'input',
    });
  });
});

const part = (value: unknown) => ({ input: [{ role: 'user', content: [value] }] });
const asking = (changes: object) => ({ questions: [predicate, changes] });
const many = (count: number) => Array.from({ length: count }, (_, i) => ({ value: `v${i}`, label: `l${i}` }));
const values = (count: number) => many(count).map(({ value }) => ({ value }));
const labels = (count: number) => many(count).map(({ label }) => ({ label }));

describe('400', () => {
  it.each<[Record<string, unknown>, string, string]>([
    [{ input: undefined }, 'missing_required_parameter', 'input'],
    [{ input: [] }, 'invalid_value', 'input'],
    [{ input: [{ role: 'user' }] }, 'missing_required_parameter', 'input[0].content'],
    [{ input: [{ content: 'a' }] }, 'missing_required_parameter', 'input[0].role'],
    [{ input: [{ role: 'tool', content: 'a' }] }, 'invalid_value', 'input[0].role'],
    [
      { input: [{ type: 'function_call', name: 'f', call_id: 'c', arguments: '{}' }] },
      'unsupported_value',
      'input[0].type',
    ],
    [part({ type: 'input_image', image_url: 'https://x' }), 'unsupported_value', 'input[0].content[0].type'],
    [part({ type: 'input_text' }), 'missing_required_parameter', 'input[0].content[0].text'],
    [part({ type: 'input_text', text: 'a', data: {} }), 'unknown_parameter', 'input[0].content[0].data'],
    [{ questions: undefined }, 'missing_required_parameter', 'questions'],
    [{ questions: [] }, 'invalid_value', 'questions'],
    [{ questions: Array.from({ length: 401 }, () => predicate) }, 'invalid_value', 'questions'],
    [asking({}), 'missing_required_parameter', 'questions[1].type'],
    [asking({ type: 'essay', instructions: 'a' }), 'invalid_value', 'questions[1].type'],
    [asking({ type: 'predicate' }), 'missing_required_parameter', 'questions[1].instructions'],
    [asking({ ...predicate, choices: [] }), 'unknown_parameter', 'questions[1].choices'],
    [asking({ type: 'predicate', instructions: '' }), 'invalid_value', 'questions[1].instructions'],
    [
      asking({ type: 'predicate', instructions: 'x'.repeat(16_385) }),
      'invalid_value',
      'questions[1].instructions',
    ],
    // The fake backend tells 200 labels apart.
    [asking({ ...choice, choices: values(201) }), 'unsupported_value', 'questions[1].choices'],
    [asking({ ...choice, choices: values(1) }), 'invalid_value', 'questions[1].choices'],
    [asking({ ...choice, choices: values(256) }), 'invalid_value', 'questions[1].choices'],
    [
      asking({ ...choice, choices: [...values(2), { value: 'v1' }] }),
      'invalid_value',
      'questions[1].choices[2].value',
    ],
    [asking({ ...choice, choices: [{ value: 5 }] }), 'invalid_type', 'questions[1].choices[0].value'],
    [asking({ ...score, levels: labels(1) }), 'invalid_value', 'questions[1].levels'],
    [asking({ ...score, levels: labels(11) }), 'invalid_value', 'questions[1].levels'],
  ])('%j is %s at %s', async (changes, code, param) => {
    const response = await send(changes);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });

  it('names the kinds of questions', async () => {
    const error = await errorOf(await send(asking({ type: 'essay', instructions: 'a' })));
    expect(error.message).toBe("'questions[1].type': must be one of 'predicate', 'choice', 'score'.");
  });
});

it('a backend that leaves a question without its probabilities is 502', async () => {
  for (const answers of [[], [{ probabilities: [0.5, 0.3, 0.2] }]]) {
    const usage = { input_tokens: 1, cached_tokens: 0 };
    const response = await call(path, {
      key: await makeKey(),
      body: {
        ...body,
        model: `answers ${JSON.stringify({ answers, truncated: false, usage })}`,
        questions: [predicate],
      },
    });
    expect(response.status).toBe(502);
    expect((await errorOf(response)).code).toBe('upstream_invalid_response');
  }
});
