// GET /ready.
import { describe, expect, it } from 'vitest';
import { call, errorOf } from '../../../support/harness';

describe('GET /ready', () => {
  it('returns 200 with the models and revisions of the backend', async () => {
    const response = await call('/ready');
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: 'ready', models: [{ id: 'fake', revision: 'r1' }] });
  });

  it('returns 503 with retry advice when nothing listens', async () => {
    const response = await call('/ready', { env: { BACKEND_URL: 'http://127.0.0.1:1' } });
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('2');
    expect(response.headers.get('retry-after-ms')).toBe('2000');
    expect(response.headers.get('x-should-retry')).toBe('true');
    expect((await errorOf(response)).code).toBe('backend_unavailable');
  });

  it.each([
    ['loading', 'model_loading'],
    ['draining', 'backend_unavailable'],
    ['failed', 'backend_unavailable'],
  ] as const)('returns 503 while the backend is %s', async (status, code) => {
    const backend = { readiness: async () => ({ status, models: [] }) };
    const response = await call('/ready', { services: { backend: backend as never } });
    expect(response.status).toBe(503);
    expect(response.headers.has('retry-after')).toBe(true);
    expect((await errorOf(response)).code).toBe(code);
  });
});
