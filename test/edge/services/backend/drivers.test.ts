// The contract of chat that every driver keeps, run over real sockets against each of them.
import { describe, expect, it } from 'vitest';
import { ApiError, type ErrorCode, toApiError } from '../../../../functions/errors';
import {
  type BackendCall,
  type ChatBackend,
  type ChatCall,
  HfBackend,
  HttpBackend,
  OpenAiBackend,
  relayEvents,
} from '../../../../functions/services/backend';
import { ChatCompletionAssembler } from '../../../../functions/services/chat-completions';
import {
  ChatCompletionChunkSchema,
  type ChatCompletionChunk,
} from '../../../../functions/schemas/chat-completion';
import { bindings } from '../../../support/bindings';
import { backendCall, chatCall } from '../../../support/chat-call';
import { HF_TOKEN } from '../../../support/fake-hf.mjs';
import { OPENAI_KEY } from '../../../support/fake-openai.mjs';
import { eventually, seenByBackend } from '../../../support/harness';
import { upstream } from '../../../support/upstream';

interface Driver {
  /** The driver for a model, behind a fault if one is named. */
  make: (model: string, options?: { fault?: string; credentials?: string }) => ChatBackend;
  /** What a 503 of whatever stands in front of it means. */
  gateway503: ErrorCode;
}

const at = (fault: string | undefined) =>
  fault === undefined ? bindings.BACKEND_URL : `${bindings.BACKEND_URL}/fault/${fault}`;

const DRIVERS: Record<string, Driver> = {
  http: {
    make: (_, { fault, credentials = 'edge-test-secret' } = {}) =>
      new HttpBackend({ urls: [at(fault)], secret: credentials, graceMs: 50 }),
    gateway503: 'backend_unavailable',
  },
  openai: {
    make: (id, { fault, credentials = OPENAI_KEY } = {}) =>
      new OpenAiBackend(upstream(`${at(fault)}/openai/v1`, { id, api_key: credentials }), { graceMs: 50 }),
    gateway503: 'backend_unavailable',
  },
  hf: {
    make: (id, { fault, credentials = HF_TOKEN } = {}) =>
      new HfBackend(upstream(`${at(fault)}/hf`, { id, api_key: credentials }), { graceMs: 50 }),
    gateway503: 'model_loading',
  },
};

const TOOL = { name: 'clock', description: null, parameters: { type: 'object' }, strict: false };

async function errorOf(promise: Promise<unknown>): Promise<ApiError> {
  const error: unknown = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
}

/** What a caller sees of a stream: its chunks, the error that ended it, and whether it was whole. */
async function relay(driver: ChatBackend, body: ChatCall, changes: Partial<BackendCall> = {}) {
  const ours = new AbortController();
  const chunks: ChatCompletionChunk[] = [];
  let error: ApiError | undefined;
  const stream = await relayEvents({
    opening: driver.streamChat(body, backendCall({ signal: ours.signal, ...changes })),
    abort: () => ours.abort(),
    signal: ours.signal,
    acceptedAtMs: Date.now(),
    keepAliveMs: 15_000,
    probeMs: Infinity,
    describeError: (thrown) => {
      error = toApiError(thrown);
      return { error: error.code };
    },
    onChunk: (chunk) => chunks.push(chunk) > 0,
  });
  const text = await new Response(stream).text();
  expect(text).not.toContain('traceback');
  return { chunks, text, error, isDone: text.trimEnd().endsWith('data: [DONE]') };
}

const textOf = (chunks: ChatCompletionChunk[]) =>
  chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta.content ?? '')).join('');

describe.each(Object.entries(DRIVERS))('the driver %s', (_name, { make, gateway503 }) => {
  it('gives an answer under our id and name, with its usage', async () => {
    const body = chatCall();
    const answer = await make('fake').chat(body, backendCall());
    expect(answer).toMatchObject({
      id: body.id,
      created: body.created,
      model: 'fake',
      object: 'chat.completion',
    });
    expect(answer.choices).toEqual([
      {
        index: 0,
        message: { role: 'assistant', content: 'Hello é world', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ]);
    expect(answer.usage).toEqual({
      prompt_tokens: 3,
      completion_tokens: 2,
      total_tokens: 5,
      prompt_tokens_details: { cached_tokens: 1 },
      completion_tokens_details: { reasoning_tokens: 0 },
    });
  });

  it('gives the same answer as a stream, piece by piece, the usage last', async () => {
    const body = chatCall();
    const { chunks, isDone, text } = await relay(make('fake'), body);
    expect(isDone).toBe(true);
    const events = text.split('\n\n').filter((event) => event.startsWith('data: {'));
    for (const event of events)
      expect(ChatCompletionChunkSchema.parse(JSON.parse(event.slice(6)))).toMatchObject({
        id: body.id,
        created: body.created,
        model: 'fake',
      });
    expect(chunks.map(({ usage }) => usage?.total_tokens ?? null).filter(Boolean)).toEqual([5]);
    expect([chunks.at(-1)?.choices, chunks.at(-1)?.usage?.prompt_tokens]).toEqual([[], 3]);
    const assembler = new ChatCompletionAssembler();
    for (const chunk of chunks) assembler.add(chunk);
    const whole = await make('fake').chat(body, backendCall());
    expect(assembler.finish()?.choices).toEqual(whole.choices);
  });

  it('gives no usage where none is asked for', async () => {
    const { chunks, isDone } = await relay(make('fake'), chatCall({ include_usage: false }));
    expect([isDone, chunks.some(({ usage }) => Boolean(usage))]).toEqual([true, false]);
  });

  it('gives as many choices as are asked for', async () => {
    const { choices } = await make('fake').chat(chatCall({ n: 3 }), backendCall());
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2]);
  });

  it('gives tool calls, whole and in pieces that add up', async () => {
    const body = chatCall({ model: 'tools', tools: [{ type: 'function', function: TOOL }] });
    const { choices } = await make('tools').chat(body, backendCall());
    expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } });
    const calls = choices[0]?.message.tool_calls ?? [];
    expect(calls[0]).toMatchObject({ id: 'call_1', type: 'function' });
    const { chunks } = await relay(make('tools'), body);
    const assembler = new ChatCompletionAssembler();
    for (const chunk of chunks) assembler.add(chunk);
    expect(assembler.finish()?.choices[0]?.message.tool_calls).toEqual(calls);
  });

  it('cuts no character in two', async () => {
    const { chunks } = await relay(make('bytewise'), chatCall({ model: 'bytewise' }));
    expect(textOf(chunks)).toContain('é🙂');
  });

  it('sends the request id, the deadline and the trace along', async () => {
    const call = backendCall({ deadlineMs: 12_345 });
    await make('fake').chat(chatCall(), call);
    expect((await seenByBackend(call.requestId))?.headers).toMatchObject({
      'x-deadline-ms': '12345',
      traceparent: call.traceparent,
    });
  });

  it.each([
    ['overloaded', 'server_is_overloaded', 7_000],
    ['too-long', 'context_length_exceeded', undefined],
  ])('says of the model %s that it is %s', async (model, code, retryAfterMs) => {
    for (const how of ['chat', 'streamChat'] as const) {
      const answer = make(model)[how](chatCall({ model }), backendCall());
      const error = await errorOf(answer);
      expect([error.code, error.options.retryAfterMs]).toEqual([code, retryAfterMs]);
      expect(error.message).not.toContain('traceback');
    }
  });

  it('says that its credentials are wrong, without them', async () => {
    const driver = make('fake', { credentials: 'wrong-credentials' });
    for (const how of ['chat', 'streamChat'] as const) {
      const answer = driver[how](chatCall(), backendCall());
      const error = await errorOf(answer);
      expect([error.code, error.status]).toEqual(['upstream_auth_error', 502]);
      expect(JSON.stringify([error.message, error.options.cause])).not.toMatch(/wrong-credentials|traceback/);
    }
  });

  it.each<[string, ErrorCode]>([
    ['html', 'upstream_invalid_response'],
    ['half-json', 'upstream_invalid_response'],
    ['cut-json', 'backend_unavailable'],
    ['no-body', 'upstream_invalid_response'],
    ['endless', 'upstream_invalid_response'],
    ['redirect', 'upstream_invalid_response'],
    ['gateway-503', gateway503],
    ['big-header', 'backend_unavailable'],
    ['big-error', 'upstream_invalid_response'],
    ['hang', 'deadline_exceeded'],
    ['dripping', 'deadline_exceeded'],
  ])('says of the fault %s that it is %s', async (fault, code) => {
    const deadlineMs = code === 'deadline_exceeded' ? 1_000 : 30_000;
    const answer = make('fake', { fault }).chat(chatCall(), backendCall({ deadlineMs }));
    const error = await errorOf(answer);
    expect([error.code, error.message.includes('traceback')]).toEqual([code, false]);
  });

  it.each([
    ['no-body', 'upstream_stream_interrupted'],
    ['endless', 'upstream_invalid_response'],
    ['dripping', 'deadline_exceeded'],
  ])('ends a stream with the fault %s by %s', async (fault, code) => {
    const deadlineMs = code === 'deadline_exceeded' ? 1_000 : 30_000;
    const { error, isDone } = await relay(make('fake', { fault }), chatCall(), { deadlineMs });
    expect([error?.code, isDone]).toEqual([code, false]);
  });

  it.each([
    ['cut', ['upstream_stream_interrupted']],
    ['end-without-done', ['upstream_stream_interrupted']],
    ['garbage', ['upstream_invalid_response']],
    ['unknown-error-event', ['upstream_invalid_response', 'upstream_stream_interrupted']],
  ])('ends the stream of the model %s with an error after its text', async (model, codes) => {
    const { chunks, error, isDone } = await relay(make(model), chatCall({ model }));
    expect([textOf(chunks), isDone]).toEqual(['Hel', false]);
    expect(codes).toContain(error?.code);
  });

  it('lets go when the reader of a stream leaves', async () => {
    const caller = new AbortController();
    const call = backendCall({ signal: caller.signal });
    const stream = await make('endless').streamChat(chatCall({ model: 'endless' }), call);
    const reader = stream.getReader();
    await reader.read();
    expect((await seenByBackend(call.requestId))?.leftAtMs).toBeNull();
    caller.abort();
    await reader.cancel().catch(() => {});
    const hasLeft = async () => typeof (await seenByBackend(call.requestId))?.leftAtMs === 'number';
    expect(await eventually(hasLeft, 2_000)).toBe(true);
  });
});
