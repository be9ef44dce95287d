// What the OpenAI driver asks of a server, and what it makes of servers that follow the protocol loosely.
import { describe, expect, it } from 'vitest';
import { ApiError } from '../../../../functions/errors';
import { OpenAiBackend, relayEvents } from '../../../../functions/services/backend';
import { readOpenAiError } from '../../../../functions/services/backend/openai-error';
import { toOpenAiRequest } from '../../../../functions/services/backend/openai-request';
import { bindings } from '../../../support/bindings';
import { backendCall, chatCall } from '../../../support/chat-call';
import { OPENAI_KEY } from '../../../support/fake-openai.mjs';
import { upstream } from '../../../support/upstream';

const theirs = (model: string) =>
  upstream(`${bindings.BACKEND_URL}/openai/v1`, { model, api_key: OPENAI_KEY });

const ask = (model: string, changes = {}) =>
  new OpenAiBackend(theirs(model)).chat(chatCall({ model: 'mine', ...changes }), backendCall());

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'fine',
    (error: unknown) => (error instanceof ApiError ? error.code : 'not ours'),
  );

async function eventsOf(model: string): Promise<string[]> {
  const ours = new AbortController();
  const stream = await relayEvents({
    opening: new OpenAiBackend(theirs(model)).streamChat(chatCall({ model: 'mine' }), backendCall()),
    abort: () => ours.abort(),
    signal: ours.signal,
    acceptedAtMs: Date.now(),
    keepAliveMs: 15_000,
    probeMs: Infinity,
    describeError: (error) => ({ error: (error as ApiError).code }),
  });
  const text = await new Response(stream).text();
  return text.split(/\r?\n\r?\n/).filter((event) => event !== '');
}

describe('the request', () => {
  it('is as small as it can be, and tells nobody whose it is', () => {
    expect(toOpenAiRequest(chatCall(), 'theirs', false)).toEqual({
      model: 'theirs',
      messages: [{ role: 'user', content: 'Hello' }],
      temperature: 1,
      top_p: 1,
    });
  });

  it("has everything that was asked for, in OpenAI's words", () => {
    const tool = { name: 'f', description: 'd', parameters: { type: 'object' }, strict: true };
    const plain = { name: 'g', description: null, parameters: null, strict: false };
    const call = chatCall({
      max_tokens: 5,
      temperature: 0,
      top_p: 0.5,
      stop: ['x'],
      seed: 0,
      n: 2,
      logprobs: true,
      top_logprobs: 3,
      frequency_penalty: -1,
      presence_penalty: 1,
      logit_bias: { '5': -100 },
      response_format: { type: 'json_schema', json_schema: { type: 'object' } },
      tools: [
        { type: 'function', function: tool },
        { type: 'function', function: plain },
      ],
      tool_choice: 'required',
      tool_name: 'f',
      parallel_tool_calls: false,
      early_exit: { mode: 'auto', max_risk: null },
    });
    expect(toOpenAiRequest(call, 'theirs', true)).toEqual({
      model: 'theirs',
      messages: [{ role: 'user', content: 'Hello' }],
      max_completion_tokens: 5,
      temperature: 0,
      top_p: 0.5,
      stop: ['x'],
      seed: 0,
      n: 2,
      logprobs: true,
      top_logprobs: 3,
      frequency_penalty: -1,
      presence_penalty: 1,
      logit_bias: { '5': -100 },
      response_format: {
        type: 'json_schema',
        json_schema: { name: 'answer', schema: { type: 'object' }, strict: true },
      },
      tools: [
        { type: 'function', function: tool },
        { type: 'function', function: { name: 'g' } },
      ],
      tool_choice: { type: 'function', function: { name: 'f' } },
      parallel_tool_calls: false,
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  it('has the conversation, with system for developer and null for a message that only calls', () => {
    const calls = [{ id: 'c', type: 'function' as const, function: { name: 'f', arguments: '{}' } }];
    const messages = [
      { role: 'developer', content: 'Be brief.' },
      { role: 'assistant', content: '', tool_calls: calls },
      { role: 'tool', content: '5', tool_call_id: 'c' },
    ];
    expect(toOpenAiRequest(chatCall({ messages }), 'theirs', false)['messages']).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'assistant', content: null, tool_calls: calls },
      { role: 'tool', content: '5', tool_call_id: 'c' },
    ]);
  });

  it.each(['lossless', 'gated'] as const)('cannot ask for early exit by the mode %s', (mode) => {
    const call = chatCall({ early_exit: { mode, max_risk: null } });
    expect(() => toOpenAiRequest(call, 'theirs', false)).toThrow("'early_exit.mode'");
  });

  it('is what the server takes, who checks every name', async () => {
    const full = chatCall({ max_tokens: 5, stop: ['x'], seed: 1, n: 2, logprobs: true, top_logprobs: 1 });
    const answer = await new OpenAiBackend(theirs('fake')).chat(full, backendCall());
    expect(answer.choices.map(({ logprobs }) => logprobs?.content[0]?.top_logprobs[0]?.logprob)).toEqual([
      -0.5, -0.5,
    ]);
  });
});

describe('an answer', () => {
  it('that is a refusal is what the model says', async () => {
    expect((await ask('unwilling')).choices[0]?.message).toMatchObject({ content: 'No.', refusal: null });
  });

  it('that a filter ended has ended by itself', async () => {
    expect((await ask('filtered')).choices[0]?.finish_reason).toBe('stop');
    expect((await eventsOf('filtered')).join()).toContain('"finish_reason":"stop"');
  });

  it.each(['no-usage', 'deaf'])(
    'of the model %s is not valid: usage or choices are missing',
    async (model) => {
      expect(await codeOf(ask(model, { n: 2 }))).toBe('upstream_invalid_response');
    },
  );

  it('shows nothing of the server that gave it', async () => {
    expect(JSON.stringify(await ask('fake'))).not.toMatch(/theirs|hmm|service_tier/);
    expect((await eventsOf('fake')).join()).not.toMatch(/theirs|provider|reasoning_content|OPENROUTER/);
  });
});

describe('a stream', () => {
  it('has its usage once, last and as it was said last', async () => {
    const usages = (await eventsOf('chatty'))
      .filter((event) => event.startsWith('data: {'))
      .map((event) => (JSON.parse(event.slice(6)) as { usage: { total_tokens: number } | null }).usage);
    expect(usages.slice(0, -1).every((usage) => usage === null)).toBe(true);
    expect(usages.at(-1)?.total_tokens).toBe(5);
  });

  it('without usage is whole all the same', async () => {
    expect((await eventsOf('no-usage')).at(-1)).toBe('data: [DONE]');
  });
});

describe('an error of the server', () => {
  const body = (error: Record<string, unknown>) => JSON.stringify({ error });
  it.each<[number, string, string, string | null]>([
    [401, body({ message: 'x' }), 'upstream_auth_error', null],
    [403, '<h1>', 'upstream_auth_error', null],
    [404, body({ code: 'model_not_found' }), 'upstream_invalid_response', null],
    [429, '', 'server_is_overloaded', null],
    [400, body({ code: 'context_length_exceeded' }), 'context_length_exceeded', 'messages'],
    [400, body({ message: 'maximum context length is 9' }), 'context_length_exceeded', 'messages'],
    [400, body({ param: 'logit_bias' }), 'unsupported_value', 'logit_bias'],
    [422, body({ param: 'tools[0].function' }), 'unsupported_value', 'tools[0].function'],
    [400, body({ param: 'http://internal host/' }), 'unsupported_value', null],
    [400, '<h1>', 'upstream_invalid_response', null],
    [500, body({ message: 'x' }), 'upstream_invalid_response', null],
    [502, '<h1>', 'backend_unavailable', null],
    [503, body({ code: 'rate_limit_exceeded' }), 'backend_unavailable', null],
  ])('%i %s is %s', (status, text, code, param) => {
    const error = readOpenAiError(status, text, null);
    expect([error.code, error.options.param ?? null]).toEqual([code, param]);
  });

  it('is logged without the key that it repeats', async () => {
    const error = await ask('broken').then(
      () => undefined,
      (thrown: unknown) => thrown as ApiError,
    );
    expect(error?.code).toBe('upstream_invalid_response');
    expect(error?.options.cause).toContain('Bearer [key]');
    expect(error?.options.cause).not.toContain(OPENAI_KEY);
  });
});
