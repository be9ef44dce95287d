// POST /v1/chat/completions without streaming: what the backend gets, and what comes back.
import { describe, expect, it } from 'vitest';
import { ErrorSchema } from '../../../../functions/errors';
import {
  call,
  chatBody,
  errorOf,
  eventually,
  makeKey,
  seenByBackend,
  type CallOptions,
} from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';

testRouteSecurity({
  operationId: 'createChatCompletion',
  method: 'POST',
  path: '/v1/chat/completions',
  body: chatBody(),
  scope: 'chat:write',
});

const send = async (changes: Record<string, unknown> = {}, options: CallOptions = {}) =>
  call('/v1/chat/completions', { key: await makeKey(), body: chatBody(changes), ...options });

const requestIdOf = (response: Response) => response.headers.get('x-request-id') ?? '';

/** What the backend got for a request with these parameters. */
async function backendBody(changes: Record<string, unknown>) {
  const response = await send(changes);
  expect([response.status, response.status === 200 ? '' : await response.text()]).toEqual([200, '']);
  return (await seenByBackend(requestIdOf(response)))?.body;
}

const DEFAULTS = {
  model: 'fake',
  messages: [{ role: 'user', content: 'Hello' }],
  max_tokens: null,
  temperature: 1,
  top_p: 1,
  stop: [],
  seed: null,
  n: 1,
  logprobs: false,
  top_logprobs: 0,
  frequency_penalty: 0,
  presence_penalty: 0,
  logit_bias: {},
  include_usage: false,
  tools: [],
  tool_choice: 'auto',
  tool_name: null,
  parallel_tool_calls: true,
  early_exit: null,
  stream: false,
};

describe('200', () => {
  it("is OpenAI's object, with our id and the backend's text", async () => {
    const response = await send();
    expect(response.status).toBe(200);
    const body = await response.json<Record<string, unknown>>();
    expect(body).toMatchObject({
      object: 'chat.completion',
      model: 'fake',
      choices: [{ message: { role: 'assistant', content: 'Hello é world', refusal: null } }],
      usage: { total_tokens: 5 },
    });
    expect(body['id']).toMatch(/^chatcmpl-[0-9A-Z]{26}$/);
    expect(Math.abs(Number(body['created']) - Date.now() / 1000)).toBeLessThan(60);
  });

  it('fills in every default', async () => {
    expect(await backendBody({})).toMatchObject(DEFAULTS);
  });

  it('takes null for an absent parameter, as SDKs send it', async () => {
    const names = [
      'max_tokens',
      'temperature',
      'stop',
      'n',
      'logit_bias',
      'stream',
      'metadata',
      'tools',
      'tool_choice',
    ];
    const nulls = Object.fromEntries(
      [...names, 'functions', 'audio', 'reasoning_effort'].map((name) => [name, null]),
    );
    expect(await backendBody(nulls)).toMatchObject(DEFAULTS);
  });

  it('passes every parameter on, zeros too', async () => {
    const parameters = {
      temperature: 0,
      top_p: 0.5,
      seed: -7,
      n: 2,
      logprobs: true,
      top_logprobs: 0,
      frequency_penalty: -2,
      presence_penalty: 2,
      logit_bias: { '0': -100, '50256': 100 },
      stop: ['a', 'b', 'c', 'd'],
    };
    expect(await backendBody(parameters)).toMatchObject(parameters);
    for (const mode of ['auto', 'off', 'lossless'] as const) {
      const early_exit = { mode, max_risk: null };
      expect(await backendBody({ early_exit: { mode } })).toMatchObject({ early_exit });
    }
    const gated = { mode: 'gated', max_risk: 0.01 };
    expect(await backendBody({ early_exit: gated })).toMatchObject({ early_exit: gated });
    expect(await backendBody({ early_exit: {} })).toMatchObject({
      early_exit: { mode: 'auto', max_risk: null },
    });
    expect(await backendBody({ stop: 'END' })).toMatchObject({ stop: ['END'] });
    expect(await backendBody({ max_tokens: 5 })).toMatchObject({ max_tokens: 5 });
    expect(await backendBody({ max_completion_tokens: 6 })).toMatchObject({ max_tokens: 6 });
    expect(await backendBody({ max_completion_tokens: 6, max_tokens: 6 })).toMatchObject({ max_tokens: 6 });
  });

  it('accepts what real clients send along', async () => {
    const extras = {
      parallel_tool_calls: true,
      service_tier: 'auto',
      prompt_cache_key: 'k',
      prompt_cache_retention: '24h',
      safety_identifier: 's',
      tools: [],
      tool_choice: 'auto',
      response_format: { type: 'text' },
      modalities: ['text'],
      metadata: { any: 'thing' },
      user: 'u-1',
      store: false,
    };
    expect(await backendBody(extras)).toMatchObject(DEFAULTS);
  });

  it('passes on the form that the answer must have, and whose request it is', async () => {
    const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] };
    const strict = { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } };
    expect(await backendBody({ response_format: strict, user: 'u-1' })).toMatchObject({
      response_format: { type: 'json_schema', json_schema: schema },
      tenant: expect.stringMatching(/^prj_/) as string,
      end_user: 'u-1',
    });
    const any = { response_format: { type: 'json_object' } };
    expect(await backendBody({ response_format: { type: 'json_object' } })).toMatchObject(any);
    expect(
      await backendBody({ response_format: { type: 'json_schema', json_schema: { name: 'any' } } }),
    ).toMatchObject(any);
    expect(await backendBody({ response_format: { type: 'text' } })).toMatchObject({
      response_format: null,
      end_user: '',
    });
  });

  it("passes on the key's priority, which no caller can set", async () => {
    const key = await makeKey({ priority: 3 });
    for (const stream of [false, true]) {
      const response = await send({ stream }, { key, headers: { 'x-priority': '4', priority: 'u=0' } });
      await response.text();
      expect((await seenByBackend(requestIdOf(response)))?.body).toMatchObject({ priority: 3 });
    }
    expect(await backendBody({})).toMatchObject({ priority: 0 });
    const refused = await send({ priority: 4 }, { key });
    expect(refused.status).toBe(400);
    expect(await errorOf(refused)).toMatchObject({ code: 'unknown_parameter', param: 'priority' });
  });

  it('accepts every role, text parts and an answer as SDKs echo it', async () => {
    const echoed = {
      role: 'assistant',
      content: 'Hi',
      refusal: null,
      annotations: [],
      audio: null,
      function_call: null,
      tool_calls: [],
      name: null,
    };
    const parts = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ];
    const messages = [
      { role: 'system', content: '' },
      { role: 'developer', content: 'x' },
      { role: 'user', content: parts, name: 'me' },
      echoed,
    ];
    expect(await backendBody({ messages })).toMatchObject({
      messages: [
        { role: 'system', content: '' },
        { role: 'developer', content: 'x' },
        { role: 'user', content: 'a\nb' },
        { role: 'assistant', content: 'Hi' },
      ],
    });
  });

  it('sends secret, request id, deadline and the trace to the backend', async () => {
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
    const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
    const response = await send({}, { headers: { 'x-deadline-ms': '1234', traceparent } });
    const headers = (await seenByBackend(requestIdOf(response)))?.headers;
    expect(headers).toMatchObject({
      'x-attune-secret': 'edge-test-secret',
      'x-request-id': requestIdOf(response),
      'x-deadline-ms': '1234',
      traceparent: expect.stringMatching(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`)) as string,
    });
    expect(headers).not.toHaveProperty('authorization');
    const plain = await send({}, { headers: { traceparent: 'nonsense' } });
    const seen = (await seenByBackend(requestIdOf(plain)))?.headers;
    expect(seen?.['x-deadline-ms']).toBe('600000');
    expect(seen?.['traceparent']).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  });

  it('shows nothing that the contract does not have', async () => {
    const response = await send({ model: 'extra-field' });
    expect(response.status).toBe(200);
    expect(await response.text()).not.toContain('traceback');
  });
});

const user = { role: 'user', content: 'a' };
const withMessage = (message: unknown) => ({ messages: [message] });
const withPart = (part: unknown) =>
  withMessage({ role: 'user', content: [{ type: 'text', text: 'a' }, part] });

describe('400', () => {
  it.each<[Record<string, unknown>, string, string]>([
    [{ model: undefined }, 'missing_required_parameter', 'model'],
    [{ messages: undefined }, 'missing_required_parameter', 'messages'],
    [{ model: null }, 'invalid_type', 'model'],
    [{ model: '' }, 'invalid_value', 'model'],
    [{ messages: [] }, 'invalid_value', 'messages'],
    [{ messages: 'hi' }, 'invalid_type', 'messages'],
    [{ messages: {} }, 'invalid_type', 'messages'],
    [{ messages: [null] }, 'invalid_type', 'messages[0]'],
    [{ messages: [user, {}] }, 'missing_required_parameter', 'messages[1].role'],
    [withMessage({ role: 'user' }), 'missing_required_parameter', 'messages[0].content'],
    [withMessage({ role: 'user', content: null }), 'invalid_type', 'messages[0].content'],
    [withMessage({ role: 'user', content: 1 }), 'invalid_type', 'messages[0].content'],
    [withMessage({ role: 'user', content: [] }), 'invalid_value', 'messages[0].content'],
    [withMessage({ role: 'wizard', content: 'a' }), 'invalid_value', 'messages[0].role'],
    [withMessage({ role: 'function', content: 'a', name: 'f' }), 'unsupported_value', 'messages[0].role'],
    [withMessage({ ...user, foo: 1 }), 'unknown_parameter', 'messages[0].foo'],
    [
      withPart({ type: 'image_url', image_url: { url: 'x' } }),
      'unsupported_value',
      'messages[0].content[1].type',
    ],
    [withPart({ type: 'input_audio' }), 'unsupported_value', 'messages[0].content[1].type'],
    [withPart({ type: 'file' }), 'unsupported_value', 'messages[0].content[1].type'],
    [withPart({ type: 'text' }), 'missing_required_parameter', 'messages[0].content[1].text'],
    [withPart({ type: 'text', text: 5 }), 'invalid_type', 'messages[0].content[1].text'],
    [withPart('text'), 'invalid_type', 'messages[0].content[1]'],
    [{ temperature: 2.1 }, 'invalid_value', 'temperature'],
    [{ temperature: '1' }, 'invalid_type', 'temperature'],
    [{ top_p: 0 }, 'invalid_value', 'top_p'],
    [{ n: 0 }, 'invalid_value', 'n'],
    [{ n: 129 }, 'invalid_value', 'n'],
    [{ n: 1.5 }, 'invalid_type', 'n'],
    [{ max_tokens: 0 }, 'invalid_value', 'max_tokens'],
    [{ max_tokens: 5, max_completion_tokens: 6 }, 'invalid_value', 'max_tokens'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'invalid_value', 'stop'],
    [{ stop: '' }, 'invalid_value', 'stop'],
    [{ stop: ['a', ''] }, 'invalid_value', 'stop[1]'],
    [{ stop: 5 }, 'invalid_type', 'stop'],
    [{ seed: 2 ** 53 }, 'invalid_value', 'seed'],
    [{ seed: 0.5 }, 'invalid_type', 'seed'],
    [{ frequency_penalty: 3 }, 'invalid_value', 'frequency_penalty'],
    [{ logit_bias: { x: 1 } }, 'invalid_value', 'logit_bias.x'],
    [{ logit_bias: { '1': 101 } }, 'invalid_value', 'logit_bias.1'],
    [
      { logit_bias: Object.fromEntries(Array.from({ length: 301 }, (_, i) => [i, 1])) },
      'invalid_value',
      'logit_bias',
    ],
    [{ top_logprobs: 2 }, 'invalid_value', 'top_logprobs'],
    [{ logprobs: true, top_logprobs: 21 }, 'invalid_value', 'top_logprobs'],
    [{ stream: 'yes' }, 'invalid_type', 'stream'],
    [{ stream_options: { include_usage: true } }, 'invalid_value', 'stream_options'],
    [{ user: 'x'.repeat(129) }, 'invalid_value', 'user'],
    [{ metadata: { k: 5 } }, 'invalid_type', 'metadata.k'],
    [{ metadata: { k: 'x'.repeat(513) } }, 'invalid_value', 'metadata.k'],
    [
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [i, 'x'])) },
      'invalid_value',
      'metadata',
    ],
    [{ functions: [] }, 'unsupported_parameter', 'functions'],
    [{ reasoning_effort: 'high' }, 'unsupported_parameter', 'reasoning_effort'],
    [{ response_format: { type: 'xml' } }, 'unsupported_value', 'response_format.type'],
    [
      { response_format: { type: 'json_schema' } },
      'missing_required_parameter',
      'response_format.json_schema',
    ],
    [
      { response_format: { type: 'json_schema', json_schema: { name: 'a b' } } },
      'invalid_value',
      'response_format.json_schema.name',
    ],
    [{ modalities: ['text', 'audio'] }, 'unsupported_value', 'modalities'],
    [{ service_tier: 'flex' }, 'invalid_value', 'service_tier'],
    [{ temprature: 1 }, 'unknown_parameter', 'temprature'],
  ])('%j is %s at %s', async (changes, code, param) => {
    const response = await send(changes);
    expect(response.status).toBe(400);
    expect(response.headers.get('x-should-retry')).toBe('false');
    const body = await response.json();
    expect(ErrorSchema.parse(body).error).toMatchObject({ code, param, type: 'invalid_request_error' });
  });

  it('lists every fault', async () => {
    const error = await errorOf(await send({ temperature: 9, n: 'x', foo: 1 }));
    expect(error).toHaveProperty('errors');
    expect((error as unknown as { errors: { path: string }[] }).errors.map(({ path }) => path)).toEqual(
      expect.arrayContaining(['temperature', 'n']),
    );
  });

  it.each(['0', '-1', 'soon', '1.5', '99999999999'])('refuses the deadline %s', async (deadline) => {
    const response = await send({}, { headers: { 'x-deadline-ms': deadline } });
    expect(response.status).toBe(400);
    expect((await errorOf(response)).param).toBe('x-deadline-ms');
  });
});

describe('failures of the backend', () => {
  it.each([
    ['missing', 404, 'model_not_found', 'model'],
    ['overloaded', 503, 'server_is_overloaded', null],
    ['wrong-secret', 502, 'upstream_auth_error', null],
    ['detail', 502, 'upstream_invalid_response', null],
    ['html', 502, 'upstream_invalid_response', null],
    ['code-of-another-status', 502, 'upstream_invalid_response', null],
    ['reset', 503, 'backend_unavailable', null],
  ])('%s is %i %s, streamed or not', async (model, status, code, param) => {
    for (const stream of [false, true]) {
      const response = await send({ model, stream });
      expect(response.status).toBe(status);
      const text = await response.text();
      expect(text).not.toContain('traceback');
      const { error } = ErrorSchema.parse(JSON.parse(text));
      expect(error).toMatchObject({ code, param, request_id: requestIdOf(response) });
    }
  });

  it('passes retry advice on and sets it when there is none', async () => {
    const overloaded = await send({ model: 'overloaded' });
    expect(overloaded.headers.get('retry-after')).toBe('7');
    expect(overloaded.headers.get('retry-after-ms')).toBe('7000');
    expect(overloaded.headers.get('x-should-retry')).toBe('true');
    const gone = await send({}, { env: { BACKEND_URL: 'http://127.0.0.1:1' } });
    expect(gone.status).toBe(503);
    expect(gone.headers.get('retry-after')).toBe('2');
  });

  it('is told at once when the caller leaves', async () => {
    const caller = new AbortController();
    const seed = Math.floor(Math.random() * 1e9);
    const body = chatBody({ model: 'hang', seed });
    const pending = call('/v1/chat/completions', { key: await makeKey(), body, signal: caller.signal });
    pending.catch(() => {});
    expect(await eventually(async () => (await seenByBackend({ seed })) !== null, 2000)).toBe(true);
    caller.abort();
    const leftAtMs = Date.now();
    const isGone = async () => ((await seenByBackend({ seed }))?.leftAtMs ?? Infinity) - leftAtMs < 1000;
    expect(await eventually(isGone, 1000)).toBe(true);
  });
});
