// Whatever is sent: never a 5xx, always the envelope, and the same headers.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ErrorSchema } from '../../functions/errors';
import { call, chatBody, makeKey } from '../support/harness';

const json = fc.jsonValue({ maxDepth: 4 });
const PARAMETERS =
  'model messages temperature top_p stop n seed max_tokens max_completion_tokens logit_bias logprobs ' +
  'top_logprobs stream_options metadata store user tools text tool_choice response_format modalities ' +
  'functions __proto__ constructor toString';
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
