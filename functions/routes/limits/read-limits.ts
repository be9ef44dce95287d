// GET /v1/limits: the caller's own limits and what is left of them, from the object that enforces them.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { toUnixSeconds } from '../../lib/time';
import { CURRENCY, type LimitState } from '../../services/ledger';

const count = z.int().min(0);

const RateSchema = z
  .object({
    limit: count.openapi({ description: 'Per minute; what is used comes back evenly.' }),
    remaining: count.openapi({ description: 'What running requests hold is not in it.' }),
    reset_ms: count.openapi({ description: 'Until all of the limit is there again, if nothing is used.' }),
  })
  .openapi('RateLimit');

const LimitsSchema = z
  .object({
    object: z.literal('limits'),
    requests: RateSchema,
    tokens: RateSchema,
    concurrency: z.object({ limit: count, running: count }),
    budget: z
      .object({
        currency: z.string(),
        window: z.enum(['day', 'month']).openapi({ description: 'In UTC.' }),
        enforcement: z.enum(['hard', 'soft']).openapi({
          description: '`hard` refuses what could exceed the budget; `soft` only counts.',
        }),
        limit_micros: count.openapi({ description: 'Millionths of the currency, like all that follow.' }),
        settled_micros: count,
        reserved_micros: count.openapi({ description: 'The most that running requests can cost.' }),
        remaining_micros: count,
        resets_at: count.openapi({ description: 'Unix time in seconds.' }),
      })
      .nullable(),
  })
  .openapi('Limits', {
    example: {
      object: 'limits',
      requests: { limit: 600, remaining: 598, reset_ms: 200 },
      tokens: { limit: 200000, remaining: 191424, reset_ms: 2573 },
      concurrency: { limit: 16, running: 1 },
      budget: {
        currency: 'USD',
        window: 'month',
        enforcement: 'hard',
        limit_micros: 5000000,
        settled_micros: 1200310,
        reserved_micros: 164,
        remaining_micros: 3799526,
        resets_at: 1764547200,
      },
    },
  });

const route = createApiRoute({
  method: 'get',
  path: '/v1/limits',
  operationId: 'readLimits',
  tags: ['Limits'],
  summary: 'Read your limits',
  description: 'The limits of the API key that asks, and what is left of them. Asking costs nothing.',
  access: 'any_key',
  metering: 'free',
  responses: {
    200: { description: 'The limits.', content: { 'application/json': { schema: LimitsSchema } } },
  },
});

export function registerReadLimits(app: App): void {
  app.openapi(route, async (c) => {
    return c.json(toLimits(await c.var.services.ledger.read(c.var.key)), 200);
  });
}

function toLimits({ requests, tokens, concurrency, budget }: LimitState): z.output<typeof LimitsSchema> {
  const toRate = ({ limit, remaining, resetMs }: LimitState['requests']) => ({
    limit,
    remaining,
    reset_ms: resetMs,
  });
  return {
    object: 'limits',
    requests: toRate(requests),
    tokens: toRate(tokens),
    concurrency,
    budget: budget && {
      currency: CURRENCY,
      window: budget.window,
      enforcement: budget.hard ? 'hard' : 'soft',
      limit_micros: budget.micros,
      settled_micros: budget.settledMicros,
      reserved_micros: budget.reservedMicros,
      remaining_micros: Math.max(0, budget.micros - budget.settledMicros - budget.reservedMicros),
      resets_at: toUnixSeconds(budget.resetsAtMs),
    },
  };
}
