// GET /v1/models/{id}.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';

testRouteSecurity({ operationId: 'readModel', method: 'GET', path: '/v1/models/fake' });

describe('GET /v1/models/{id}', () => {
  it('returns 200 for a model of the list', async () => {
    const response = await call('/v1/models/fake', { key: await makeKey() });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ id: 'fake', object: 'model', context_length: 8192 });
  });

  it.each(['gpt-4o', 'a%2Fb', '%E0%A4%A', '__proto__'])('returns 404 for %s', async (id) => {
    const response = await call(`/v1/models/${id}`, { key: await makeKey() });
    expect(response.status).toBe(404);
    expect(await errorOf(response)).toMatchObject({ code: 'model_not_found', param: 'model' });
  });

  it.each(['/v1/models', '/v1/models/fake'])(
    'returns 400 for a deadline that %s cannot read, as the specification says',
    async (path) => {
      const response = await call(path, { key: await makeKey(), headers: { 'x-deadline-ms': '3600001' } });
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({ code: 'invalid_value', param: 'x-deadline-ms' });
    },
  );
});
