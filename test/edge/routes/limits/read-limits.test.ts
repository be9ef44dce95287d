// GET /v1/limits: the caller's own limits, before and after something is used.
import { describe, expect, it } from 'vitest';
import { call, makeKey } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';

testRouteSecurity({ operationId: 'readLimits', method: 'GET', path: '/v1/limits' });

describe('GET /v1/limits', () => {
  it('shows the limits in the database and all that is left of them', async () => {
    const limits = {
      requests_per_minute: 60,
      tokens_per_minute: 1000,
      concurrency: 3,
      budget_micros: 5000,
      budget_window: 'day',
      is_budget_hard: 0,
    };
    const response = await call('/v1/limits', { key: await makeKey({ limits }) });
    expect(response.status).toBe(200);
    const now = new Date();
    const midnight = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() + 1);
    expect(await response.json()).toEqual({
      object: 'limits',
      requests: { limit: 60, remaining: 60, reset_ms: 0 },
      tokens: { limit: 1000, remaining: 1000, reset_ms: 0 },
      concurrency: { limit: 3, running: 0 },
      budget: {
        currency: 'USD',
        window: 'day',
        enforcement: 'soft',
        limit_micros: 5000,
        settled_micros: 0,
        reserved_micros: 0,
        remaining_micros: 5000,
        resets_at: midnight / 1000,
        alert_percent: null,
      },
      project_budget: null,
    });
  });

  it('is generous to a key that was given no limits, costs nothing, and knows no budget', async () => {
    const key = await makeKey();
    for (let i = 0; i < 3; i++) {
      expect(await (await call('/v1/limits', { key })).json()).toMatchObject({
        requests: { limit: 60_000, remaining: 60_000 },
        tokens: { limit: 100_000_000 },
        concurrency: { limit: 1000 },
        budget: null,
      });
    }
  });

  it('takes a limit that no request could pass as one', async () => {
    const limits = { requests_per_minute: 0, tokens_per_minute: -5, concurrency: 0 };
    expect(await (await call('/v1/limits', { key: await makeKey({ limits }) })).json()).toMatchObject({
      requests: { limit: 1 },
      tokens: { limit: 1 },
      concurrency: { limit: 1 },
    });
  });
});
