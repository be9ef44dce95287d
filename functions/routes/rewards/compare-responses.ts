// POST /v1/rewards/compare: which of two answers is better, by how much, and whether both orders say so.
import type { z } from '@hono/zod-openapi';
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import { backendCall } from '../../backend-call';
import type { App } from '../../context';
import { always } from '../../middleware/exit-ladder';
import { timed } from '../../middleware/timing';
import {
  ComparisonSchema,
  CompareResponsesSchema,
  type ComparisonAnswer,
} from '../../schemas/reward-comparison';
import { MAX_REWARD_BODY_BYTES } from '../../schemas/reward-request';
import { settleReward, toRewardAnswer, toRewardCall } from './reward-call';
import { estimateReading, mostCompared } from './reward-estimate';

const route = createApiRoute({
  method: 'post',
  path: '/v1/rewards/compare',
  operationId: 'compareResponses',
  tags: ['Rewards'],
  summary: 'Compare two answers',
  description:
    'Which of two answers is better, as a calibrated probability. The pair is read in both orders, so that exchanging `a` and `b` gives exactly the opposite verdict.',
  access: 'rewards:write',
  metering: estimateReading(mostCompared),
  cacheable: always,
  maxBodyBytes: MAX_REWARD_BODY_BYTES,
  request: {
    body: { required: true, content: { 'application/json': { schema: CompareResponsesSchema } } },
  },
  responses: {
    200: { description: 'The verdict.', content: { 'application/json': { schema: ComparisonSchema } } },
  },
  errors: ['model_not_found', 'context_length_exceeded', ...BACKEND_ERRORS],
});

export function registerCompareResponses(app: App): void {
  app.openapi(route, async (c) => {
    const body = c.req.valid('json');
    const comparison = {
      ...toRewardCall(c, body),
      a: body.a,
      b: body.b,
      order: body.order ?? 'both',
      allow_tie: body.allow_tie ?? true,
      tie_margin: body.tie_margin ?? 0,
    };
    const answer = await timed(c, 'backend', c.get('services').backend.compare(comparison, backendCall(c)));
    settleReward(c, answer);
    return c.json(
      {
        ...toRewardAnswer(c, 'comparison', body, answer),
        object: 'reward.comparison' as const,
        ...toVerdict(answer, body),
      },
      200,
    );
  });
}

function toVerdict(answer: ComparisonAnswer, { include }: z.output<typeof CompareResponsesSchema>) {
  const { winner, probability_a, margin, logit, consistent, position_bias_delta, criteria, truncated } =
    answer;
  const withTokens = include?.includes('tokens');
  const orders = answer.orders.map(({ logprobs, ...order }) => (withTokens ? { ...order, logprobs } : order));
  return {
    winner,
    probability_a,
    margin,
    logit,
    consistent,
    position_bias_delta,
    criteria,
    truncated,
    ...(include?.includes('probabilities')
      ? { probabilities: { a: probability_a, b: 1 - probability_a } }
      : {}),
    ...(withTokens || include?.includes('orders') ? { orders } : {}),
  };
}
