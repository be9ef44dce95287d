// Models of other servers beside our own: listed, chatted with, refused for everything else, and kept from keys that keep nothing.
import { beforeEach, describe, expect, it } from 'vitest';
import { bindings } from '../../../support/bindings';
import { OPENAI_KEY } from '../../../support/fake-openai.mjs';
import { call, chatBody, errorOf, eventsOf, makeKey, seenByBackend } from '../../../support/harness';

const UPSTREAM = {
  id: 'gpt-x',
  url: `${bindings.BACKEND_URL}/openai/v1`,
  api_key: OPENAI_KEY,
  model: 'their-name',
  context_length: 4096,
};

const withUpstreams = (...upstreams: Record<string, unknown>[]) => ({ UPSTREAMS: JSON.stringify(upstreams) });
const env = withUpstreams(UPSTREAM);

let key: string;
beforeEach(async () => {
  key = await makeKey();
});

const chat = (changes: Record<string, unknown> = {}, more: Record<string, unknown> = {}) =>
  call('/v1/chat/completions', {
    key,
    body: chatBody({ model: 'gpt-x', ...changes }),
    env: { ...env, ...more },
  });

describe('a model of another server', () => {
  it('answers under the name that its caller used, and is asked under its own', async () => {
    const response = await chat({ user: 'ada' });
    expect(response.status).toBe(200);
    const answer = await response.json<{ id: string; model: string; choices: { message: object }[] }>();
    expect(answer.id).toMatch(/^chatcmpl-/);
    expect([answer.model, answer.choices[0]?.message]).toEqual([
      'gpt-x',
      { role: 'assistant', content: 'Hello é world', refusal: null },
    ]);
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(seen?.body?.['model']).toBe('their-name');
    expect(seen?.headers['authorization']).toBe(`Bearer ${OPENAI_KEY}`);
    expect(seen?.headers['x-attune-secret']).toBeUndefined();
    expect(JSON.stringify(seen?.body)).not.toContain('ada');
  });

  it('streams, and is charged by the usage that its stream states', async () => {
    const metered = await makeKey({ limits: { budget_micros: 1e9 } });
    const response = await call('/v1/chat/completions', {
      key: metered,
      body: chatBody({ model: 'gpt-x', stream: true }),
      env,
    });
    const events = await eventsOf(response);
    expect(events.at(-1)).toBe('[DONE]');
    expect(events.join()).not.toContain('"usage":{');
    // Models without a price cost 1 a token of the prompt and 4 one of the answer.
    const settled = async () => {
      const limits = await (await call('/v1/limits', { key: metered })).json<{ budget: object }>();
      return limits.budget;
    };
    await expect.poll(settled).toMatchObject({ settled_micros: 3 + 4 * 2, reserved_micros: 0 });
  });

  it('is listed with what its callers need to know, and nothing else', async () => {
    const { data } = await (await call('/v1/models', { key, env })).json<{ data: { id: string }[] }>();
    expect(data.map(({ id }) => id)).toEqual(['fake', 'fake-judge', 'fake-question-judge', 'gpt-x']);
    const one = await (await call('/v1/models/gpt-x', { key, env })).text();
    expect(JSON.parse(one)).toEqual({
      id: 'gpt-x',
      object: 'model',
      created: 0,
      owned_by: 'upstream',
      revision: 'upstream',
      context_length: 4096,
      capabilities: ['chat'],
      languages: [],
      license: 'unknown',
      shutdown_date: null,
    });
  });

  it('takes the place of a model of ours with the same id', async () => {
    const shadow = withUpstreams({ ...UPSTREAM, id: 'fake' });
    const { data } = await (
      await call('/v1/models', { key, env: shadow })
    ).json<{ data: { id: string; owned_by: string }[] }>();
    expect(data.map(({ id, owned_by: owner }) => `${id} ${owner}`)).toEqual([
      'fake-judge attune',
      'fake-question-judge attune',
      'fake upstream',
    ]);
    const response = await call('/v1/chat/completions', { key, body: chatBody(), env: shadow });
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(seen?.body?.['model']).toBe('their-name');
  });

  it('leaves our own models alone', async () => {
    const response = await chat({ model: 'fake' });
    expect(response.status).toBe(200);
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect([seen?.body?.['model'], seen?.headers['authorization']]).toEqual(['fake', undefined]);
  });

  it('answers while our own backend is away', async () => {
    expect((await chat({}, { BACKEND_URL: 'http://127.0.0.1:1' })).status).toBe(200);
    expect((await chat({ model: 'fake' }, { BACKEND_URL: 'http://127.0.0.1:1' })).status).toBe(503);
  });

  it.each([
    ['/v1/tokenize', { text: 'a' }],
    ['/v1/rewards/compare', { input: 'q', a: 'x', b: 'y' }],
    ['/v1/rewards/score', { input: 'q', responses: ['x', 'y'] }],
    ['/v1/rewards/rank', { input: 'q', responses: ['x', 'y'] }],
    ['/v1/decisions', { input: 'q', questions: [{ type: 'predicate', name: 'q', instructions: 'Is it?' }] }],
  ])('cannot be used for %s', async (path, body) => {
    const response = await call(path, { key, body: { model: 'gpt-x', ...body }, env });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code: 'unsupported_value', param: 'model' });
  });

  it('with a wrong key is our fault and says nothing of it', async () => {
    const wrong = withUpstreams({ ...UPSTREAM, api_key: 'wrong-upstream-key' });
    const response = await chat({}, wrong);
    expect([response.status, response.headers.get('x-should-retry')]).toEqual([502, 'false']);
    const text = await response.text();
    expect(text).toContain('upstream_auth_error');
    expect(text).not.toMatch(/wrong-upstream-key|traceback/);
  });

  it('is not for keys that keep nothing, unless its server keeps nothing either', async () => {
    const nothing = await makeKey({ limits: { zero_data_retention: 1 } });
    const send = (upstream: Record<string, unknown>) =>
      call('/v1/chat/completions', {
        key: nothing,
        body: chatBody({ model: 'gpt-x' }),
        env: withUpstreams(upstream),
      });
    const refused = await send(UPSTREAM);
    expect(refused.status).toBe(403);
    expect(await errorOf(refused)).toMatchObject({ code: 'model_not_allowed', param: 'model' });
    expect((await send({ ...UPSTREAM, zero_data_retention: true })).status).toBe(200);
  });
});
