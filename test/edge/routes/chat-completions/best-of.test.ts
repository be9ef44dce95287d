// POST /v1/chat/completions with `best_of`: the winner, whole and streamed, what it costs, and what it does not go with.
import { describe, expect, it } from 'vitest';
import { ErrorSchema } from '../../../../functions/errors';
import { mostJudged, mostTokens } from '../../../../functions/routes/chat-completions/chat-estimate';
import { amountOf } from '../../../../functions/services/ledger';
import {
  budgetOf,
  call,
  chatBody,
  errorOf,
  eventsOf,
  eventually,
  makeKey,
  seenByBackend,
  type CallOptions,
} from '../../../support/harness';

const asked = { best_of: 4, reward_model: 'fake-judge' };

const send = async (changes: Record<string, unknown> = {}, options: CallOptions = {}) =>
  call('/v1/chat/completions', {
    key: await makeKey(),
    body: chatBody({ ...asked, ...changes }),
    ...options,
  });

// The fake backend says 3 and 2 tokens for all answers; 6 pairs in two orders have 10 tokens each, 4 of them cached.
const USAGE = {
  prompt_tokens: 3 + 120,
  completion_tokens: 2,
  total_tokens: 125,
  prompt_tokens_details: { cached_tokens: 1 + 48 },
};

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const BEST_OF = { n: 4, index: 1, score: sigmoid(99), reward_model: 'fake-judge' };

const makeCountedKey = () => makeKey({ limits: { budget_micros: 1e9 } });

describe('best_of', () => {
  it('gives the answer that the reward model likes best as the only one', async () => {
    const response = await send({
      user: 'ada',
      messages: [
        { role: 'developer', content: 'a' },
        { role: 'user', content: 'b' },
      ],
    });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      object: 'chat.completion',
      model: 'fake',
      choices: [{ index: 0, message: { content: 'best 99' }, finish_reason: 'stop' }],
      usage: USAGE,
      best_of: BEST_OF,
    });
    // The last call of the request is the one that ranks.
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(seen?.body).toEqual({
      model: 'fake-judge',
      input: [
        { role: 'system', content: 'a' },
        { role: 'user', content: 'b' },
      ],
      criteria: [],
      average: 'probability',
      truncation: 'auto',
      early_exit: null,
      tenant: expect.stringMatching(/^prj_/) as string,
      end_user: 'ada',
      priority: 0,
      responses: ['choice 0', 'best 99', 'choice 2', 'choice 3'],
      method: 'auto',
      max_comparisons: null,
    });
    expect(Number(seen?.headers['x-deadline-ms'])).toBeLessThanOrEqual(600_000);
  });

  it('streams the winner as ordinary chunks', async () => {
    const events = await eventsOf(await send({ stream: true, stream_options: { include_usage: true } }));
    expect(events.at(-1)).toBe('[DONE]');
    const chunks = events.slice(0, -1).map((data) => JSON.parse(data) as Record<string, unknown>);
    expect(chunks).toMatchObject([
      { object: 'chat.completion.chunk', choices: [{ index: 0, delta: { role: 'assistant', content: '' } }] },
      { choices: [{ index: 0, delta: { content: 'best 99' } }] },
      { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }], best_of: BEST_OF },
      { choices: [], usage: USAGE },
    ]);
    const without = await eventsOf(await send({ stream: true }));
    expect(without).toHaveLength(4);
    expect(without.join('')).not.toContain('total_tokens');
  });

  it('keeps the answer when asked to, with what was chosen', async () => {
    for (const stream of [false, true]) {
      const key = await makeKey();
      const response = await send({ stream, store: true }, { key });
      const text = await response.text();
      const [, id = ''] = /"id":"(chatcmpl-\w+)"/.exec(text) ?? [];
      const stored = await call(`/v1/chat/completions/${id}`, { key });
      expect(await stored.json()).toMatchObject({
        choices: [{ index: 0, message: { content: 'best 99' } }],
        usage: USAGE,
        best_of: BEST_OF,
      });
    }
  });

  it('costs what both models used', async () => {
    for (const stream of [false, true]) {
      const key = await makeCountedKey();
      await (await send({ stream }, { key })).text();
      // Models without a price cost 1 a token that is read and 4 a token that is generated.
      const isSettled = async () => (await budgetOf(key)).settled_micros === 3 + 2 * 4 + 120;
      expect(await eventually(isSettled, 2000)).toBe(true);
      expect((await budgetOf(key)).reserved_micros).toBe(0);
    }
  });

  it('is filled with keep-alives while the answers are made, and a late refusal is an event', async () => {
    const response = await send({ stream: true, model: 'late-refusal' }, { services: { keepAliveMs: 200 } });
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text.startsWith(': keep-alive\n\n')).toBe(true);
    const last = text.trimEnd().split('\n\n').at(-1) ?? '';
    expect(ErrorSchema.parse(JSON.parse(last.slice(6))).error.code).toBe('model_not_found');
  });

  it('that fails costs nothing', async () => {
    for (const stream of [false, true]) {
      const key = await makeCountedKey();
      expect((await send({ stream, model: 'overloaded' }, { key })).status).toBe(503);
      expect(await budgetOf(key)).toMatchObject({ settled_micros: 0, reserved_micros: 0 });
    }
  });

  it('ends the work of the backend when the caller of a stream leaves, and costs what was reserved', async () => {
    const key = await makeCountedKey();
    const response = await send(
      { stream: true, model: 'hang', max_tokens: 1 },
      { key, services: { keepAliveMs: 50 } },
    );
    const reader = response.body!.getReader();
    await reader.read();
    const { reserved_micros: reserved } = await budgetOf(key);
    await reader.cancel();
    const id = response.headers.get('x-request-id') ?? '';
    expect(await eventually(async () => (await seenByBackend(id))?.leftAtMs !== null, 2000)).toBe(true);
    expect(await eventually(async () => (await budgetOf(key)).settled_micros === reserved, 2000)).toBe(true);
  });
});

describe('best_of with a reward model that cannot choose', () => {
  it.each([
    ['nobody', 404, 'model_not_found'],
    ['fake', 400, 'unsupported_value'],
  ])('%s is %i before an answer is made', async (reward_model, status, code) => {
    for (const stream of [false, true]) {
      const response = await send({ reward_model, stream });
      expect(response.status).toBe(status);
      expect(await errorOf(response)).toMatchObject({ code, param: 'reward_model' });
      const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
      expect(seen?.body ?? null).toBe(null);
    }
  });
});

describe('best_of of a conversation that the reward model would not read whole', () => {
  it('is a 400 before an answer is made where the model reads no conversations', async () => {
    const reward_model = 'fake-question-judge';
    const messages = ['a', 'b'].map((content) => ({ role: 'user', content }));
    for (const stream of [false, true]) {
      const response = await send({ reward_model, messages, stream });
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({ code: 'unsupported_value', param: 'messages' });
      const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
      expect(seen?.body ?? null).toBe(null);
    }
    expect((await send({ reward_model })).status).toBe(200);
  });

  it('is a 400 that names the messages where it reads others', async () => {
    const messages = [
      { role: 'user', content: 'unread' },
      { role: 'user', content: 'b' },
    ];
    const response = await send({ messages });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({
      code: 'unsupported_value',
      param: 'messages',
      message: 'messages has a message that the judge template does not read, number 1.',
    });
  });
});

describe('400', () => {
  const called = {
    role: 'assistant',
    content: null,
    tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }],
  };
  const tools = [{ type: 'function', function: { name: 'f' } }];

  it.each<[Record<string, unknown>, string, string]>([
    [{ best_of: 1 }, 'invalid_value', 'best_of'],
    [{ best_of: 17 }, 'invalid_value', 'best_of'],
    [{ best_of: 2.5 }, 'invalid_type', 'best_of'],
    [{ reward_model: undefined }, 'missing_required_parameter', 'reward_model'],
    [{ best_of: undefined }, 'invalid_value', 'reward_model'],
    [{ n: 2 }, 'invalid_value', 'n'],
    [{ tools }, 'unsupported_value', 'tools'],
    [
      { messages: [called, { role: 'tool', content: 'x', tool_call_id: 'c' }] },
      'unsupported_value',
      'messages[0].tool_calls',
    ],
  ])('%j is %s at %s', async (changes, code, param) => {
    const response = await send(changes);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });

  it('is not given for null, or for n of 1', async () => {
    expect((await send({ best_of: null, reward_model: null, n: 2 })).status).toBe(200);
    expect((await send({ n: 1, tools: [] })).status).toBe(200);
  });
});

it('each model has its own price', () => {
  // A million tokens of the embedded model cost 10,000; a token of a model without a price costs 1.
  const use = { model: 'smollm2-135m-instruct', promptTokens: 1e6, completionTokens: 0 };
  const judged = { model: 'fake-judge', promptTokens: 7 };
  expect(amountOf({ ...use, judged })).toEqual({ tokens: 1e6 + 7, micros: 10_000 + 7 });
});

describe('the most that it can use', () => {
  it('is every answer, and every answer beside every other one as long as the reward model reads', () => {
    const body = { messages: [], best_of: 4, max_tokens: 5 };
    expect(mostTokens(body, 8192).completionTokens).toBe(20);
    expect(mostJudged(body, 1000)).toBe(4 * 3 * 1000);
  });

  it.each([{ best_of: 'x' }, { best_of: 1e9 }, { best_of: -1 }])('is bounded for %j', (body) => {
    expect(mostJudged(body, 1)).toBeLessThanOrEqual(16 * 15);
    expect(mostJudged(body, 1)).toBeGreaterThanOrEqual(0);
  });
});
