// GET /health.
import { describe, expect, it } from 'vitest';
import { call } from '../../../support/harness';

describe('GET /health', () => {
  it('returns 200 while the backend is gone', async () => {
    const response = await call('/health', { env: { BACKEND_URL: 'http://127.0.0.1:1' } });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: 'ok' });
  });
});
