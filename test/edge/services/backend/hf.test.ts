// What the Hugging Face driver asks, how long it waits for a model that is starting, and what it makes of the faults of its servers.
import { chatCompletion } from '@huggingface/inference';
import { describe, expect, it } from 'vitest';
import { ApiError } from '../../../../functions/errors';
import { HfBackend } from '../../../../functions/services/backend';
import { FAILURES_TO_OPEN } from '../../../../functions/services/backend/circuit-breaker';
import { MAX_TRIES, toHfRequest } from '../../../../functions/services/backend/hf';
import { readHfError } from '../../../../functions/services/backend/hf-error';
import { bindings } from '../../../support/bindings';
import { backendCall, chatCall } from '../../../support/chat-call';
import { FakeClock } from '../../../support/fake-clock';
import { HF_TOKEN } from '../../../support/fake-hf.mjs';
import { call, chatBody, errorOf, eventsOf, makeKey, seenByBackend } from '../../../support/harness';
import { upstream } from '../../../support/upstream';

const endpoint = (path = '/hf', changes = {}) =>
  upstream(bindings.BACKEND_URL + path, { driver: 'hf', model: 'org/theirs', api_key: HF_TOKEN, ...changes });

async function thrownBy(promise: Promise<unknown>): Promise<ApiError> {
  const thrown: unknown = await promise.catch((error: unknown) => error);
  expect(thrown).toBeInstanceOf(ApiError);
  return thrown as ApiError;
}

/** What is sent to an address, by us or by Hugging Face's own client. */
function recorder() {
  const sent: { url: string; authorization: string | null; body: unknown }[] = [];
  const record: typeof fetch = async (input, init) => {
    const authorization = new Headers(init?.headers).get('authorization');
    sent.push({ url: input as string, authorization, body: JSON.parse(init?.body as string) as unknown });
    return new Response('{}', { status: 400 });
  };
  return { sent, record };
}

describe('the request', () => {
  it.each([
    'https://router.huggingface.co/v1',
    'https://endpoint.example',
    'https://endpoint.example/v1',
    'https://endpoint.example/below',
  ])("goes where Hugging Face's own client sends it for %s, with the same body and token", async (url) => {
    const { sent, record } = recorder();
    const entry = { ...endpoint(), url };
    await thrownBy(
      new HfBackend(entry, { fetch: record }).chat(chatCall({ max_tokens: 5, seed: 1 }), backendCall()),
    );
    await chatCompletion(
      {
        accessToken: HF_TOKEN,
        endpointUrl: url,
        model: 'org/theirs',
        messages: [{ role: 'user', content: 'Hello' }],
        temperature: 1,
        max_tokens: 5,
        seed: 1,
      },
      { fetch: record, retry_on_error: false },
    ).catch(() => {});
    expect(sent).toHaveLength(2);
    expect(sent[0]).toEqual(sent[1]);
  });

  it('has no top_p of 1, which endpoints refuse, and every other', () => {
    expect(toHfRequest(chatCall(), 'm', false)).not.toHaveProperty('top_p');
    expect(toHfRequest(chatCall({ top_p: 0.5 }), 'm', false)).toHaveProperty('top_p', 0.5);
  });

  it.each([
    [600_000, '30'],
    [20_000, '10'],
    [100, '1'],
  ])('with %i ms left lets the proxy hold it for %s s', async (deadlineMs, seconds) => {
    const asked = backendCall({ deadlineMs });
    await new HfBackend(endpoint()).chat(chatCall(), asked);
    expect((await seenByBackend(asked.requestId))?.headers['x-scale-up-timeout']).toBe(seconds);
  });
});

/** A driver whose server says 503 so often, with such a `Retry-After`, and then answers. */
function starting(times: number, retryAfter?: string) {
  const clock = new FakeClock();
  const deadlines: number[] = [];
  const script: typeof fetch = async (input, init) => {
    deadlines.push(Number(new Headers(init?.headers).get('x-deadline-ms')));
    if (deadlines.length > times) return fetch(input, init);
    const headers = retryAfter === undefined ? {} : { 'retry-after': retryAfter };
    return new Response('{"error":"secret traceback"}', { status: 503, headers });
  };
  return { clock, deadlines, backend: new HfBackend(endpoint(), { clock, fetch: script }) };
}

describe('a model that is starting', () => {
  it.each(['chat', 'streamChat'] as const)('is waited for while it comes up (%s)', async (how) => {
    const { backend, clock, deadlines } = starting(2, '4');
    await backend[how](chatCall(), backendCall({ deadlineMs: 20_000 }));
    expect(clock.slept.filter((ms) => ms >= 1000)).toEqual([4_000, 4_000]);
    expect(deadlines.map((ms) => Math.round(ms / 1000))).toEqual([20, 16, 12]);
  });

  it.each([
    ['without a word of when', undefined, [1_500, 1_500], undefined],
    ['with a Retry-After that is short', '2', [2_000, 2_000], 2_000],
    ['with a Retry-After that is long', '20', [], 20_000],
  ])(
    'that never comes up, %s, is asked a few times and then said to load',
    async (_, header, pauses, after) => {
      const { backend, clock, deadlines } = starting(Infinity, header);
      const error = await thrownBy(backend.chat(chatCall(), backendCall()));
      expect([error.code, error.status, error.options.retryAfterMs]).toEqual(['model_loading', 503, after]);
      expect(error.message).not.toContain('traceback');
      expect(clock.slept.filter((ms) => ms >= 1000)).toEqual(pauses);
      expect(deadlines).toHaveLength(pauses.length + 1);
      expect(deadlines.length).toBeLessThanOrEqual(MAX_TRIES);
    },
  );

  it('is not waited for past the deadline', async () => {
    const { backend, deadlines } = starting(Infinity, '4');
    const error = await thrownBy(backend.chat(chatCall(), backendCall({ deadlineMs: 6_000 })));
    expect([error.code, deadlines.length]).toEqual(['model_loading', 2]);
  });

  it('is not asked again for a caller who has left', async () => {
    const { backend, clock, deadlines } = starting(Infinity, '4');
    const caller = new AbortController();
    clock.sleep = async () => caller.abort();
    await thrownBy(backend.chat(chatCall(), backendCall({ signal: caller.signal })));
    expect(deadlines).toHaveLength(1);
  });

  it('is asked more and more rarely, however many want it: its circuit opens', async () => {
    const { backend, deadlines } = starting(Infinity, '20');
    for (let i = 0; i < 20; i += 1)
      expect((await thrownBy(backend.chat(chatCall(), backendCall()))).code).toBe('model_loading');
    // Then only a probe goes, when it is due.
    expect(deadlines.length).toBeLessThan(2 * FAILURES_TO_OPEN);
  });

  it('is asked once only when its answer broke off: it may have run', async () => {
    let calls = 0;
    const script: typeof fetch = async (input, init) => {
      calls += 1;
      return fetch(input, init);
    };
    const backend = new HfBackend(endpoint('/fault/cut-json/hf'), { fetch: script });
    const error = await thrownBy(backend.chat(chatCall(), backendCall()));
    expect([error.code, calls]).toEqual(['backend_unavailable', 1]);
  });
});

describe('an error of the server', () => {
  it.each<[number, string, string]>([
    [401, '{"error":"Invalid username or password."}', 'upstream_auth_error'],
    [402, '{"error":"You have exceeded your credits."}', 'upstream_auth_error'],
    [403, '{"error":"no permission"}', 'upstream_auth_error'],
    [404, '{"error":"Model not found"}', 'upstream_invalid_response'],
    [422, '{"error":"`inputs` must have less than 9 tokens. Given: 12"}', 'context_length_exceeded'],
    [422, '{"error":"`temperature` must be strictly positive"}', 'unsupported_value'],
    [400, '{"error":{"message":"maximum context length is 9"}}', 'context_length_exceeded'],
    [400, '<h1>', 'upstream_invalid_response'],
    [424, '{"error":"Request failed during generation"}', 'upstream_invalid_response'],
    [429, '{"error":"Model is overloaded"}', 'server_is_overloaded'],
    [502, '<h1>', 'backend_unavailable'],
    [503, '<h1>', 'model_loading'],
  ])('%i %s is %s', (status, text, code) => {
    const error = readHfError(status, text, null);
    expect(error.code).toBe(code);
    expect(error.message).not.toMatch(/credits|password|permission|generation/);
  });

  it.each(['broken', 'starting'])(
    'of the model %s is logged without the token that it repeats',
    async (model) => {
      const backend = new HfBackend(endpoint('/hf', { model }), { clock: new FakeClock() });
      const { options } = await thrownBy(backend.chat(chatCall(), backendCall()));
      expect(options.cause).toContain('Bearer [key]');
      expect(options.cause).not.toContain(HF_TOKEN);
    },
  );
});

describe('an upstream with the driver hf', () => {
  const send = async (entry: Record<string, unknown>, changes = {}) =>
    call('/v1/chat/completions', {
      key: await makeKey(),
      body: chatBody({ model: 'hf-x', ...changes }),
      env: {
        UPSTREAMS: JSON.stringify([
          {
            id: 'hf-x',
            driver: 'hf',
            url: `${bindings.BACKEND_URL}/hf`,
            api_key: HF_TOKEN,
            context_length: 4096,
            ...entry,
          },
        ]),
      },
    });

  it('answers, whole and as a stream', async () => {
    const whole = await (await send({})).json<{ model: string; choices: { message: object }[] }>();
    expect([whole.model, whole.choices[0]?.message]).toMatchObject(['hf-x', { content: 'Hello é world' }]);
    expect((await eventsOf(await send({}, { stream: true }))).at(-1)).toBe('[DONE]');
  });

  it.each(['wrong', 'unpaid'])(
    'that does not let us in (%s) is our fault and says nothing of it',
    async (how) => {
      const response = await send(how === 'wrong' ? { api_key: 'hf_wrong' } : { model: 'unpaid' });
      expect([response.status, response.headers.get('x-should-retry')]).toEqual([502, 'false']);
      const text = await response.text();
      expect(text).toContain('upstream_auth_error');
      expect(text).not.toMatch(/hf_wrong|traceback|credits/);
    },
  );

  it('says that its model is loading, and when to come back', async () => {
    const response = await send({ url: `${bindings.BACKEND_URL}/fault/gateway-503/hf` });
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '9']);
    expect((await errorOf(response)).code).toBe('model_loading');
  });
});
