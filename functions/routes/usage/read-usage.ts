// GET /v1/usage: what the caller's project has used, day by day.
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { ApiError } from '../../errors';
import { toUnixSeconds } from '../../lib/time';
import {
  UsagePageSchema,
  UsageQuerySchema,
  type DimensionName,
  type UsagePage,
} from '../../schemas/usage-page';
import { CURRENCY } from '../../services/ledger';
import { DAY_MS, type Dimension, type UsageSum } from '../../services/usage';

const DEFAULT_BUCKETS = 7;
/** Most results of one page: end users are as many as the caller likes. */
const MAX_RESULTS = 10_000;

const COLUMNS: Record<DimensionName, Dimension> = {
  api_key_id: 'keyId',
  user_id: 'endUser',
  model: 'model',
  operation: 'operation',
  exit: 'exit',
};

const route = createApiRoute({
  method: 'get',
  path: '/v1/usage',
  operationId: 'readUsage',
  tags: ['Usage'],
  summary: 'Read your usage',
  description:
    "Requests, tokens and cost of the project of the API key by day in UTC, in the shape of OpenAI's usage pages. A request is in it within a few seconds after its end, on the day that it began. Asking costs nothing.",
  access: 'usage:read',
  metering: 'free',
  request: { query: UsageQuerySchema },
  responses: {
    200: {
      description: 'One bucket for each day, also for days without requests.',
      content: { 'application/json': { schema: UsagePageSchema } },
    },
  },
  errors: ['missing_required_parameter', 'invalid_type', 'invalid_value', 'unknown_parameter'],
});

export function registerReadUsage(app: App): void {
  app.openapi(route, async (c) => {
    const query = c.req.valid('query');
    const firstMs = startOfDay(query.start_time * 1000);
    const endMs = startOfDay((query.end_time ?? toUnixSeconds(Date.now()) + 1) * 1000 - 1) + DAY_MS;
    if (endMs <= firstMs) throw invalid('end_time', 'must be after the start_time');
    const fromMs = query.page === undefined ? firstMs : Number(query.page.slice('page_'.length)) * 1000;
    if (fromMs % DAY_MS !== 0 || fromMs < firstMs || fromMs >= endMs) {
      throw invalid('page', "must be the 'next_page' of an answer to the same query");
    }
    const names = new Set([query.group_by ?? [], query['group_by[]'] ?? []].flat());
    let toMs = Math.min(endMs, fromMs + (query.limit ?? DEFAULT_BUCKETS) * DAY_MS);
    const sums = await c.get('services').usage.sum(c.get('key').projectId, {
      fromMs,
      toMs,
      dimensions: [...names].map((name) => COLUMNS[name]),
      limit: MAX_RESULTS + 1,
    });
    // A bucket is given whole or on the next page.
    const next = sums[MAX_RESULTS];
    if (next !== undefined) {
      if (next.dayMs === fromMs)
        throw invalid('group_by', `gives more than ${MAX_RESULTS} results for a day`);
      toMs = next.dayMs;
    }
    return c.json(toPage(c.get('key').projectId, sums, { fromMs, toMs, endMs }), 200);
  });
}

function startOfDay(atMs: number): number {
  return Math.floor(atMs / DAY_MS) * DAY_MS;
}

function invalid(param: string, message: string): ApiError {
  return new ApiError('invalid_value', `'${param}': ${message}.`, { param });
}

interface Span {
  fromMs: number;
  toMs: number;
  /** Where the last page ends. */
  endMs: number;
}

function toPage(projectId: string, sums: UsageSum[], { fromMs, toMs, endMs }: Span): UsagePage {
  const byDay = Map.groupBy(sums, ({ dayMs }) => dayMs);
  const days = Array.from({ length: (toMs - fromMs) / DAY_MS }, (_, day) => fromMs + day * DAY_MS);
  const hasMore = toMs < endMs;
  return {
    object: 'page',
    data: days.map((dayMs) => ({
      object: 'bucket',
      start_time: toUnixSeconds(dayMs),
      end_time: toUnixSeconds(dayMs + DAY_MS),
      results: (byDay.get(dayMs) ?? []).map((sum) => toResult(projectId, sum)),
    })),
    has_more: hasMore,
    next_page: hasMore ? `page_${toUnixSeconds(toMs)}` : null,
  };
}

function toResult(projectId: string, sum: UsageSum): UsagePage['data'][number]['results'][number] {
  return {
    object: 'usage.result',
    num_model_requests: sum.requests,
    input_tokens: sum.inputTokens,
    input_cached_tokens: sum.cachedTokens,
    output_tokens: sum.outputTokens,
    cost_micros: sum.costMicros,
    currency: CURRENCY,
    project_id: projectId,
    api_key_id: sum.keyId,
    user_id: sum.endUser === '' ? null : sum.endUser,
    model: sum.model,
    operation: sum.operation,
    exit: sum.exit,
  };
}
