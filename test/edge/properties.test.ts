// Whatever is sent: never a 5xx, always the envelope, and the same headers.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ErrorSchema } from '../../functions/errors';
import { call, chatBody, makeKey } from '../support/harness';

const json = fc.jsonValue({ maxDepth: 4 });
const PARAMETERS =
  'model messages temperature top_p stop n seed max_tokens max_completion_tokens logit_bias logprobs ' +
  'top_logprobs stream_options metadata store user tools text tool_choice response_format modalities ' +
  'functions best_of reward_model escalate __proto__ constructor toString';
const names = fc.constantFrom('', ...PARAMETERS.split(' '));
const message = fc.record(
  {
    role: fc.oneof(fc.constantFrom('user', 'system', 'tool'), json),
    content: fc.oneof(fc.string(), json),
    name: json,
  },
  { requiredKeys: [] },
);

async function check(path: string, key: string, body: unknown): Promise<void> {
  const response = await call(path, { key, body });
  expect(response.status).toBeLessThan(500);
  expect(response.headers.get('x-request-id')).toMatch(/^req_/);
  const text = await response.text();
  if (response.status === 200) return;
  const { error } = ErrorSchema.parse(JSON.parse(text));
  expect(error.request_id).toBe(response.headers.get('x-request-id'));
}

const rewards = { model: 'fake-judge', input: 'Which?' };
const question = { type: 'choice', instructions: 'What?', choices: [{ value: 'a' }, { value: true }] };

/** A valid body of every operation of the reward model. */
const JUDGED: [path: string, body: Record<string, unknown>][] = [
  ['/v1/rewards/compare', { ...rewards, a: 'a', b: 'b' }],
  ['/v1/rewards/score', { ...rewards, responses: ['a', { id: 'b', content: 'b' }] }],
  ['/v1/rewards/rank', { ...rewards, responses: ['a', { id: 'b', content: 'b' }] }],
  ['/v1/decisions', { ...rewards, questions: [question, { type: 'predicate', instructions: 'So?' }] }],
  ['/v1/rerank', { model: 'fake-judge', query: 'Which?', documents: ['a', { text: 'b' }] }],
  ['/v2/rerank', { model: 'fake-judge', query: 'Which?', documents: ['a', { text: 'b' }] }],
  ['/v1/score', { model: 'fake-judge', text_1: 'Which?', text_2: ['a', 'b'] }],
];

const REWARD_PARAMETERS =
  'input a b responses reference criteria average truncation include votes user metadata order allow_tie tie_margin ' +
  'scale method top_n max_comparisons questions query documents return_documents rank_fields text_1 queries data_1 ' +
  'text_2 items data_2 use_activation __proto__ constructor toString';
const rewardNames = fc.constantFrom('', ...REWARD_PARAMETERS.split(' '));

describe.each(JUDGED)('%s', (path, body) => {
  it('answers any JSON', async () => {
    const key = await makeKey();
    await fc.assert(
      fc.asyncProperty(json, (value) => check(path, key, value ?? 'null')),
      { numRuns: 40 },
    );
  });

  it('answers a valid request with any values changed', async () => {
    const key = await makeKey();
    const changes = fc.dictionary(rewardNames, json, { noNullPrototype: true });
    await fc.assert(
      fc.asyncProperty(changes, (values) => check(path, key, { ...body, ...values, model: 'fake-judge' })),
      { numRuns: 100 },
    );
  });

  it('answers a valid request with any value in one place', async () => {
    const key = await makeKey();
    const places = fc.constantFrom(...placesOf(body));
    await fc.assert(
      fc.asyncProperty(places, json, (place, value) => check(path, key, replaceAt(body, place, value))),
      { numRuns: 100 },
    );
  });
});

/** The ways to all values inside a value. */
function placesOf(value: unknown): string[][] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, child]) => [
    [key],
    ...placesOf(child).map((rest) => [key, ...rest]),
  ]);
}

function replaceAt(value: unknown, [key, ...rest]: string[], replacement: unknown): unknown {
  if (key === undefined) return replacement;
  const copy = structuredClone(value) as Record<string, unknown>;
  copy[key] = replaceAt(copy[key], rest, replacement);
  return copy;
}

describe.each(['/v1/chat/completions', '/v1/tokenize'])('%s', (path) => {
  it('answers any JSON', async () => {
    const key = await makeKey();
    await fc.assert(
      fc.asyncProperty(json, (body) => check(path, key, body ?? 'null')),
      { numRuns: 60 },
    );
  });

  it('answers a valid request with any values changed', async () => {
    const key = await makeKey();
    const changes = fc.dictionary(names, json, { noNullPrototype: true });
    await fc.assert(
      fc.asyncProperty(changes, (values) => check(path, key, { ...chatBody(), ...values, model: 'fake' })),
      { numRuns: 150 },
    );
  });

  it('answers any messages', async () => {
    const key = await makeKey();
    const messages = fc.array(fc.oneof(message, json), { maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(messages, (values) => check(path, key, { model: 'fake', messages: values })),
      { numRuns: 150 },
    );
  });

  it('answers any bytes', async () => {
    const key = await makeKey();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array(), (bytes) => check(path, key, bytes)),
      { numRuns: 60 },
    );
  });
});

const SETTINGS =
  'name scopes project_id environment allowed_models requests_per_minute tokens_per_minute concurrency budget ' +
  'expires_at ip_allow_list end_user_required zero_data_retention disabled __proto__ constructor toString';

describe('/v1/api_keys', () => {
  const changes = fc.dictionary(fc.constantFrom('', ...SETTINGS.split(' ')), json, { noNullPrototype: true });

  it('answers a valid request with any values changed', async () => {
    const key = await makeKey();
    await fc.assert(
      fc.asyncProperty(changes, (values) =>
        check('/v1/api_keys', key, { name: 'n', scopes: ['chat:write'], ...values }),
      ),
      { numRuns: 100 },
    );
  });

  it('answers any query', async () => {
    const key = await makeKey();
    const names = fc.constantFrom('limit', 'order', 'after', 'before', 'project_id', 'format', 'start_time');
    await fc.assert(
      fc.asyncProperty(fc.dictionary(names, fc.string()), async (query) => {
        const response = await call(`/v1/audit_logs?${new URLSearchParams(query).toString()}`, { key });
        expect(response.status).toBeLessThan(500);
      }),
      { numRuns: 60 },
    );
  });
});
