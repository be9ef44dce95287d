// POST /v1/rewards/rank: 2 to 64 answers in order, best first.
import type { z } from '@hono/zod-openapi';
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import { backendCall } from '../../backend-call';
import type { App } from '../../context';
import { always } from '../../middleware/exit-ladder';
import { timed } from '../../middleware/timing';
import { contentOf, idOf } from '../../schemas/reward-input';
import { RankingSchema, RankResponsesSchema, type RankingAnswer } from '../../schemas/reward-ranking';
import { MAX_REWARD_BODY_BYTES } from '../../schemas/reward-request';
import { settleReward, toRewardAnswer, toRewardCall } from './reward-call';
import { estimateReading, mostRanked } from './reward-estimate';

const route = createApiRoute({
  method: 'post',
  path: '/v1/rewards/rank',
  operationId: 'rankResponses',
  tags: ['Rewards'],
  summary: 'Rank answers',
  description:
    'Puts answers in order, best first, from comparisons of pairs in both orders. It is always a total order, also where preferences run in circles; `cycles` counts those.',
  access: 'rewards:write',
  metering: estimateReading(mostRanked),
  cacheable: always,
  maxBodyBytes: MAX_REWARD_BODY_BYTES,
  request: {
    body: { required: true, content: { 'application/json': { schema: RankResponsesSchema } } },
  },
  responses: {
    200: { description: 'The order.', content: { 'application/json': { schema: RankingSchema } } },
  },
  errors: ['model_not_found', 'context_length_exceeded', ...BACKEND_ERRORS],
});

export function registerRankResponses(app: App): void {
  app.openapi(route, async (c) => {
    const body = c.req.valid('json');
    const ranking = {
      ...toRewardCall(c, body),
      responses: body.responses.map(contentOf),
      method: body.method ?? 'auto',
      max_comparisons: body.max_comparisons ?? null,
    };
    const answer = await timed(c, 'backend', c.get('services').backend.rank(ranking, backendCall(c)));
    settleReward(c, answer);
    return c.json(
      {
        ...toRewardAnswer(c, 'ranking', body, answer),
        object: 'reward.ranking' as const,
        ...toOrder(answer, body),
      },
      200,
    );
  });
}

function toOrder(answer: RankingAnswer, { responses, top_n }: z.output<typeof RankResponsesSchema>) {
  const { method, num_comparisons: comparisons, best_index, is_certain, cycles } = answer;
  const results = answer.results.slice(0, top_n ?? responses.length).map((result) => ({
    ...result,
    id: idOf(responses[result.index]),
    relevance_score: result.score,
    truncated: answer.truncated[result.index] ?? false,
  }));
  return { method, comparisons, best_index, is_certain, cycles, results };
}
