// GET /v1/models.
import { createExecutionContext } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../../functions/app';
import { bindings } from '../../../support/bindings';
import { call, makeKey } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';

testRouteSecurity({ operationId: 'listModels', method: 'GET', path: '/v1/models' });

const FAKE = {
  id: 'fake',
  object: 'model',
  created: 1764000000,
  owned_by: 'attune',
  revision: 'r1',
  context_length: 8192,
  capabilities: ['chat'],
  languages: ['en'],
  license: 'Apache-2.0',
  shutdown_date: null,
};

const JUDGES = [
  { ...FAKE, id: 'fake-judge', capabilities: ['reward', 'conversations'] },
  { ...FAKE, id: 'fake-question-judge', capabilities: ['reward'] },
];

describe('GET /v1/models', () => {
  it("returns 200 in OpenAI's list shape", async () => {
    const response = await call('/v1/models', { key: await makeKey() });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ object: 'list', data: [FAKE, ...JUDGES] });
  });

  it('asks the backend once for requests that follow each other', async () => {
    let asked = 0;
    const backend = { listModels: async () => (asked++, []) };
    const app = createApp({ backend: backend as never });
    const env = { ...bindings };
    const authorization = `Bearer ${await makeKey()}`;
    for (let i = 0; i < 3; i++) {
      await app.request('/v1/models', { headers: { authorization } }, env, createExecutionContext());
    }
    expect(asked).toBe(1);
  });
});
