// GET /v1/limits: the caller's own limits and what is left of them, from the object that enforces them.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { toUnixSeconds } from '../../lib/time';
import { BudgetStateSchema } from '../../schemas/budget';
import { CURRENCY, type BudgetState, type LimitState } from '../../services/ledger';

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
    budget: BudgetStateSchema.nullable(),
    project_budget: BudgetStateSchema.nullable().openapi({
      description: 'What all API keys of the project may spend together, and what is left of it.',
    }),
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
        alert_percent: null,
      },
      project_budget: null,
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
    const { ledger } = c.get('services');
    const key = c.get('key');
    const [state, projectBudget] = await Promise.all([ledger.read(key), ledger.readProject(key)]);
    c.set('limitState', state);
    return c.json(toLimits(state, projectBudget), 200);
  });
}

function toLimits(
  { requests, tokens, concurrency, budget }: LimitState,
  projectBudget: BudgetState | null,
): z.output<typeof LimitsSchema> {
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
    budget: budget && toBudgetState(budget),
    project_budget: projectBudget && toBudgetState(projectBudget),
  };
}

function toBudgetState(budget: BudgetState): z.output<typeof BudgetStateSchema> {
  return {
    currency: CURRENCY,
    window: budget.window,
    enforcement: budget.hard ? 'hard' : 'soft',
    limit_micros: budget.micros,
    settled_micros: budget.settledMicros,
    reserved_micros: budget.reservedMicros,
    remaining_micros: Math.max(0, budget.micros - budget.settledMicros - budget.reservedMicros),
    resets_at: toUnixSeconds(budget.resetsAtMs),
    alert_percent: budget.alertPercent,
  };
}
