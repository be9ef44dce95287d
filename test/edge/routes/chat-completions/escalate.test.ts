// POST /v1/chat/completions with `escalate`: who answers, whole and streamed, what it costs, who may not, and what it does not go with.
import { describe, expect, it } from 'vitest';
import { amountOf } from '../../../../functions/services/ledger';
import { bindings } from '../../../support/bindings';
import { OPENAI_KEY } from '../../../support/fake-openai.mjs';
import {
  budgetOf,
  call,
  chatBody,
  errorOf,
  eventsOf,
  eventually,
  makeKey,
  runsOf,
  seenByBackend,
  type CallOptions,
} from '../../../support/harness';

const UPSTREAM = {
  id: 'big',
  url: `${bindings.BACKEND_URL}/openai/v1`,
  api_key: OPENAI_KEY,
  model: 'their-name',
  context_length: 4096,
};

const withUpstream = (changes: Record<string, unknown> = {}) => ({
  UPSTREAMS: JSON.stringify([{ ...UPSTREAM, ...changes }]),
});

const escalate = { to: 'big', min_confidence: 0.5 };

const send = async (changes: Record<string, unknown> = {}, options: CallOptions = {}) =>
  call('/v1/chat/completions', {
    key: await makeKey(),
    body: chatBody({ model: 'unsure', escalate, ...changes }),
    env: withUpstream(),
    ...options,
  });

/** A request that can be counted. */
const newSeed = () => Math.floor(Math.random() * 2 ** 40);

interface Answer {
  id: string;
  model: string;
  choices: { message: { content: string }; logprobs: { content: { token: string }[] } | null }[];
  usage: Record<string, unknown>;
  early_exit?: unknown;
  escalation: { to: string; confidence: number; outcome: string; error: string | null };
}

const exitOf = ({ headers }: Response) => headers.get('x-attune-exit');
const makeCountedKey = () => makeKey({ limits: { budget_micros: 1e9 } });

// Both fakes state 3 tokens read, one of them cached, and 2 written.
const OWN_USAGE = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
const BOTH_USAGE = {
  prompt_tokens: 6,
  completion_tokens: 4,
  total_tokens: 10,
  prompt_tokens_details: { cached_tokens: 2 },
  completion_tokens_details: { reasoning_tokens: 0 },
};

describe('escalate', () => {
  it('gives the answer of a model that is sure, and asks nobody else', async () => {
    const seed = newSeed();
    const response = await send({ model: 'fake', seed });
    const answer = await response.json<Answer>();
    expect([answer.model, exitOf(response), answer.escalation.outcome]).toEqual([
      'fake',
      'full',
      'confident',
    ]);
    expect(answer.escalation).toMatchObject({ to: 'big', error: null });
    expect(answer.escalation.confidence).toBeCloseTo(0.9, 10);
    expect(answer.usage).toMatchObject(OWN_USAGE);
    expect(answer.choices[0]?.logprobs).toBe(null);
    expect(await runsOf(seed)).toBe(1);
  });

  it('asks the larger model what the one that was named is unsure of', async () => {
    const seed = newSeed();
    const response = await send({ seed, user: 'ada', early_exit: { mode: 'off' } });
    const answer = await response.json<Answer>();
    expect([response.status, exitOf(response), answer.model]).toEqual([200, 'upstream', 'big']);
    expect(answer.id).toMatch(/^chatcmpl-/);
    expect(answer.escalation).toMatchObject({ to: 'big', outcome: 'escalated', error: null });
    expect(answer.escalation.confidence).toBeCloseTo(0.1, 10);
    expect(answer.usage).toEqual(BOTH_USAGE);
    expect(await runsOf(seed)).toBe(2);
    expect(response.headers.get('server-timing')).toContain('upstream;dur=');
    // The last call of the request is the one to the other server, which is not told whose it is.
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(seen?.body).toEqual({
      model: 'their-name',
      messages: [{ role: 'user', content: 'Hello' }],
      temperature: 1,
      top_p: 1,
      seed,
    });
    expect(Number(seen?.headers['x-deadline-ms'])).toBeLessThanOrEqual(600_000);
  });

  it.each(['speechless', 'silent'])(
    'takes the model %s, which says nothing of itself, for unsure',
    async (model) => {
      const answer = await (await send({ model })).json<Answer>();
      expect(answer.escalation).toEqual({ to: 'big', confidence: 0, outcome: 'escalated', error: null });
    },
  );

  it('gives log-probabilities to those who asked for them, of the model that answered', async () => {
    const own = await (await send({ model: 'fake', logprobs: true })).json<Answer>();
    expect(own.choices[0]?.logprobs?.content).toHaveLength(3);
    const theirs = await (await send({ logprobs: true })).json<Answer>();
    expect(theirs.choices[0]?.logprobs?.content).toHaveLength(1);
  });

  it.each([
    ['fake', 'fake', 'confident'],
    ['unsure', 'big', 'escalated'],
  ])('streams the answer to %s as ordinary chunks of %s', async (model, by, outcome) => {
    const response = await send({ model, stream: true, stream_options: { include_usage: true } });
    expect(exitOf(response)).toBe(outcome === 'escalated' ? 'upstream' : 'full');
    const events = await eventsOf(response);
    expect(events.at(-1)).toBe('[DONE]');
    const chunks = events.slice(0, -1).map((data) => JSON.parse(data) as Record<string, unknown>);
    expect(chunks).toMatchObject([
      { model: by, choices: [{ delta: { role: 'assistant', content: '' } }] },
      { model: by, choices: [{ delta: { content: 'Hello é world' } }] },
      { model: by, choices: [{ finish_reason: 'stop' }], escalation: { to: 'big', outcome } },
      { model: by, choices: [], usage: outcome === 'escalated' ? BOTH_USAGE : OWN_USAGE },
    ]);
  });

  it('says no rung in the headers of a stream that left before it was known', async () => {
    const response = await send(
      { model: 'slow', escalate: { ...escalate, min_confidence: 1 }, stream: true },
      { services: { keepAliveMs: 100 } },
    );
    expect([response.status, exitOf(response)]).toEqual([200, null]);
    const events = await eventsOf(response);
    expect(events.join('')).toContain('"outcome":"escalated"');
  });

  it('keeps the answer when asked to, with who gave it', async () => {
    for (const stream of [false, true]) {
      const key = await makeKey();
      const text = await (await send({ stream, store: true }, { key })).text();
      const [, id = ''] = /"id":"(chatcmpl-\w+)"/.exec(text) ?? [];
      const stored = await (await call(`/v1/chat/completions/${id}`, { key })).json<Answer>();
      expect([stored.model, stored.escalation.outcome]).toEqual(['big', 'escalated']);
      expect(stored.usage).toEqual(BOTH_USAGE);
    }
  });

  it('is neither kept for equal requests nor shared with them', async () => {
    const key = await makeKey();
    for (const model of ['fake', 'unsure']) {
      for (let i = 0; i < 2; i += 1) {
        const response = await send({ model, temperature: 0 }, { key });
        expect(response.headers.get('x-cache')).toBe('bypass');
      }
    }
  });
});

describe('a larger model that cannot answer', () => {
  it.each([
    ['overloaded', 'server_is_overloaded'],
    ['missing', 'upstream_invalid_response'],
    ['too-long', 'context_length_exceeded'],
  ])('(%s) leaves the answer that there is, and says why', async (model, error) => {
    const key = await makeCountedKey();
    const response = await send({}, { key, env: withUpstream({ model }) });
    const text = await response.text();
    const answer = JSON.parse(text) as Answer;
    expect([response.status, exitOf(response), answer.model]).toEqual([200, 'full', 'unsure']);
    expect(answer.escalation).toMatchObject({ outcome: 'failed', error });
    expect(answer.usage).toMatchObject(OWN_USAGE);
    expect(text).not.toContain('traceback');
    expect(await eventually(async () => (await budgetOf(key)).settled_micros === 3 + 2 * 4, 2000)).toBe(true);
  });

  it('with our credentials wrong is not the fault of the caller, who has an answer', async () => {
    const response = await send({}, { env: withUpstream({ api_key: 'wrong-upstream-key' }) });
    const text = await response.text();
    expect((JSON.parse(text) as Answer).escalation).toMatchObject({
      outcome: 'failed',
      error: 'upstream_auth_error',
    });
    expect(text).not.toMatch(/wrong-upstream-key|traceback/);
  });

  it('is waited for until the deadline and no longer', async () => {
    const startedAtMs = Date.now();
    const response = await send(
      {},
      { headers: { 'x-deadline-ms': '1000' }, env: withUpstream({ model: 'hang' }) },
    );
    const answer = await response.json<Answer>();
    expect(answer.escalation).toMatchObject({ outcome: 'failed', error: 'deadline_exceeded' });
    expect(Date.now() - startedAtMs).toBeLessThan(3_000);
  });
});

describe('the first model', () => {
  it('that fails fails the request: nobody else is asked', async () => {
    const response = await send({ model: 'overloaded', seed: 77_001 });
    expect([response.status, (await errorOf(response)).code]).toEqual([503, 'server_is_overloaded']);
    expect(await runsOf(77_001)).toBe(1);
  });
});

describe('bridge', () => {
  const bridged = { escalate: { ...escalate, bridge: true } };
  const gone = { BACKEND_URL: 'http://127.0.0.1:9', ...withUpstream() };

  it.each([
    ['overloaded', 'server_is_overloaded', withUpstream()],
    ['fake', 'backend_unavailable', gone],
  ])(
    'lets the larger model answer for %s, which has not begun (%s), at its own price',
    async (model, error, env) => {
      for (const stream of [false, true]) {
        const key = await makeCountedKey();
        const response = await send({ ...bridged, model, stream }, { key, env });
        expect([response.status, exitOf(response)]).toEqual([200, 'upstream']);
        const escalation = { to: 'big', confidence: 0, outcome: 'bridged', error };
        if (stream) {
          const events = await eventsOf(response);
          expect(events.at(-1)).toBe('[DONE]');
          expect(events.some((event) => event.includes('"outcome":"bridged"'))).toBe(true);
        } else {
          const answer = await response.json<Answer>();
          expect([answer.model, answer.escalation]).toEqual(['big', escalation]);
          expect(answer.usage).toMatchObject(OWN_USAGE);
        }
        expect(await eventually(async () => (await budgetOf(key)).settled_micros === 3 + 2 * 4, 2000)).toBe(
          true,
        );
      }
    },
  );

  it.each([
    ['may cost too much', { max_cost: 1 }, {}],
    ['fails as well', {}, { model: 'missing' }],
  ])('leaves the error of the first model where the larger one %s', async (_, changes, upstream) => {
    const asked = { model: 'overloaded', escalate: { ...bridged.escalate, ...changes } };
    const response = await send(asked, { env: withUpstream(upstream) });
    expect([response.status, (await errorOf(response)).code]).toEqual([503, 'server_is_overloaded']);
  });

  it('is not for a model that failed at its work, or is not there', async () => {
    const broken = await send({ ...bridged, model: 'missing' });
    expect(broken.status).toBeGreaterThanOrEqual(400);
    expect((await errorOf(broken)).code).not.toBe('server_is_overloaded');
  });
});

describe('max_cost', () => {
  const bounded = { max_completion_tokens: 5 };

  it('keeps the larger model from being asked where it could cost more', async () => {
    const seed = newSeed();
    const key = await makeCountedKey();
    const asked = { ...bounded, seed, escalate: { ...escalate, max_cost: 100 } };
    const answer = await (await send(asked, { key })).json<Answer>();
    expect([answer.model, answer.escalation.outcome]).toEqual(['unsure', 'too_costly']);
    expect(await runsOf(seed)).toBe(1);
    expect(await eventually(async () => (await budgetOf(key)).settled_micros === 3 + 2 * 4, 2000)).toBe(true);
  });

  it('lets it be asked where the most that it could cost fits', async () => {
    const messages = [{ role: 'user', content: 'Hello' }];
    // [[{"role":"user","content":"Hello"}],null,null] has 47 bytes; 5 tokens of the answer cost 4 each.
    const most = 47 + 256 + 5 * 4;
    const outcomeOf = async (maxCost: number) => {
      const asked = { ...bounded, messages, escalate: { ...escalate, max_cost: maxCost } };
      return (await (await send(asked)).json<Answer>()).escalation.outcome;
    };
    expect([await outcomeOf(most - 1), await outcomeOf(most)]).toEqual(['too_costly', 'escalated']);
  });

  it('of null is none', async () => {
    const answer = await (await send({ escalate: { ...escalate, max_cost: null } })).json<Answer>();
    expect(answer.escalation.outcome).toBe('escalated');
  });
});

describe('what it costs', () => {
  it('is what both models used, in one row of usage', async () => {
    for (const stream of [false, true]) {
      const key = await makeKey({ limits: { budget_micros: 1e9 }, scopes: ['chat:write', 'usage:read'] });
      await (await send({ stream }, { key })).text();
      // Models without a price cost 1 a token that is read and 4 a token that is generated.
      const isSettled = async () => (await budgetOf(key)).settled_micros === 2 * (3 + 2 * 4);
      expect(await eventually(isSettled, 2000)).toBe(true);
      expect((await budgetOf(key)).reserved_micros).toBe(0);
      const path = `/v1/usage?start_time=${Math.floor(Date.now() / 1000) - 60}&group_by=exit&group_by=model`;
      const rows = async () => {
        const page = await (await call(path, { key })).json<{ data: { results: object[] }[] }>();
        return page.data.flatMap(({ results }) => results);
      };
      expect(await eventually(async () => (await rows()).length === 1, 5000)).toBe(true);
      expect(await rows()).toMatchObject([
        { exit: 'upstream', model: 'unsure', input_tokens: 6, output_tokens: 4, num_model_requests: 1 },
      ]);
    }
  });

  it('is reserved before it is known who answers', async () => {
    const tight = async (micros: number) => {
      const key = await makeKey({ limits: { budget_micros: micros } });
      return (await send({ model: 'fake', max_completion_tokens: 5 }, { key })).status;
    };
    const one = 47 + 256 + 5 * 4;
    expect([await tight(2 * one - 1), await tight(2 * one)]).toEqual([429, 200]);
  });

  it('is all that was reserved when the caller leaves while nobody knows', async () => {
    const key = await makeCountedKey();
    const caller = new AbortController();
    const response = await send(
      { model: 'slow', escalate: { ...escalate, min_confidence: 1 }, stream: true },
      { key, signal: caller.signal, services: { keepAliveMs: 50 } },
    );
    const reader = response.body?.getReader();
    await reader?.read();
    const reserved = (await budgetOf(key)).reserved_micros;
    expect(reserved).toBeGreaterThan(8192 * 4);
    caller.abort();
    await reader?.cancel().catch(() => {});
    expect(await eventually(async () => (await budgetOf(key)).settled_micros === reserved, 2000)).toBe(true);
  });

  it('is each model at its own price', () => {
    const use = { model: 'smollm2-135m-instruct', promptTokens: 1e6, completionTokens: 0 };
    const escalated = { model: 'big', promptTokens: 7, completionTokens: 3 };
    expect(amountOf({ ...use, escalated })).toEqual({ tokens: 1e6 + 10, micros: 10_000 + 7 + 12 });
  });
});

describe('a key that may not', () => {
  it('use the larger model hears 403 before anybody is asked', async () => {
    const key = await makeKey({ limits: { allowed_models: JSON.stringify(['fake', 'unsure']) } });
    const response = await send({ seed: 77_002 }, { key });
    expect(response.status).toBe(403);
    expect(await errorOf(response)).toMatchObject({ code: 'model_not_allowed', param: 'escalate.to' });
    expect(await runsOf(77_002)).toBe(0);
  });

  it('leave anything elsewhere hears 403, unless that server keeps nothing either', async () => {
    const key = await makeKey({ limits: { zero_data_retention: 1 } });
    const refused = await send({}, { key });
    expect(refused.status).toBe(403);
    expect(await errorOf(refused)).toMatchObject({ code: 'model_not_allowed', param: 'escalate.to' });
    const allowed = await send({}, { key, env: withUpstream({ zero_data_retention: true }) });
    expect((await allowed.json<Answer>()).model).toBe('big');
  });
});

describe('a request that cannot be', () => {
  const tools = [{ type: 'function', function: { name: 'f' } }];

  it.each<[Record<string, unknown>, number, string, string]>([
    [{ escalate: 'big' }, 400, 'invalid_type', 'escalate'],
    [{ escalate: { to: 'big' } }, 400, 'missing_required_parameter', 'escalate.min_confidence'],
    [{ escalate: { min_confidence: 0.5 } }, 400, 'missing_required_parameter', 'escalate.to'],
    [{ escalate: { ...escalate, min_confidence: 0 } }, 400, 'invalid_value', 'escalate.min_confidence'],
    [{ escalate: { ...escalate, min_confidence: 1.1 } }, 400, 'invalid_value', 'escalate.min_confidence'],
    [{ escalate: { ...escalate, max_cost: -1 } }, 400, 'invalid_value', 'escalate.max_cost'],
    [{ escalate: { ...escalate, max_cost: 0.5 } }, 400, 'invalid_type', 'escalate.max_cost'],
    [{ escalate: { ...escalate, also: 1 } }, 400, 'unknown_parameter', 'escalate.also'],
    [{ n: 2 }, 400, 'invalid_value', 'n'],
    [{ best_of: 2, reward_model: 'fake-judge' }, 400, 'unsupported_value', 'best_of'],
    [{ tools }, 400, 'unsupported_value', 'tools'],
    [{ escalate: { ...escalate, to: 'fake' } }, 400, 'unsupported_value', 'escalate.to'],
    [{ model: 'big' }, 400, 'unsupported_value', 'escalate'],
    [{ escalate: { ...escalate, to: 'nobody' } }, 404, 'model_not_found', 'escalate.to'],
  ])('%j is %i %s at %s', async (changes, status, code, param) => {
    for (const stream of [false, true]) {
      const response = await send({ ...changes, stream });
      expect(response.status).toBe(status);
      expect(await errorOf(response)).toMatchObject({ code, param });
    }
  });

  it('is not one with escalate of null', async () => {
    const response = await send({ escalate: null, n: 2 });
    expect(await response.json<Answer>()).not.toHaveProperty('escalation');
  });
});
