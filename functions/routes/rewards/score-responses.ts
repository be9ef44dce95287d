// POST /v1/rewards/score: how good each of some answers is, against the others, a reference or a fixed poor answer.
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import { backendCall } from '../../backend-call';
import type { App } from '../../context';
import { always } from '../../middleware/exit-ladder';
import { timed } from '../../middleware/timing';
import { contentOf, idOf } from '../../schemas/reward-input';
import { MAX_REWARD_BODY_BYTES } from '../../schemas/reward-request';
import { ScoreResponsesSchema, ScoresSchema } from '../../schemas/reward-scores';
import { settleReward, toRewardAnswer, toRewardCall } from './reward-call';
import { estimateReading, mostScored } from './reward-estimate';

/** Which of the backend's numbers is the score. */
const SCALES = { unit: 'probability', logit: 'logit', raw: 'raw' } as const;

const route = createApiRoute({
  method: 'post',
  path: '/v1/rewards/score',
  operationId: 'scoreResponses',
  tags: ['Rewards'],
  summary: 'Score answers',
  description:
    'A score for each answer, in the order of the request. Scores of one model and one `against` can be compared with each other.',
  access: 'rewards:write',
  metering: estimateReading(mostScored),
  cacheable: always,
  maxBodyBytes: MAX_REWARD_BODY_BYTES,
  request: {
    body: { required: true, content: { 'application/json': { schema: ScoreResponsesSchema } } },
  },
  responses: {
    200: { description: 'The scores.', content: { 'application/json': { schema: ScoresSchema } } },
  },
  errors: ['model_not_found', 'context_length_exceeded', ...BACKEND_ERRORS],
});

export function registerScoreResponses(app: App): void {
  app.openapi(route, async (c) => {
    const body = c.req.valid('json');
    const { responses, reference = null, include } = body;
    const against = reference !== null ? 'reference' : responses.length === 1 ? 'anchor' : 'others';
    const call = {
      ...toRewardCall(c, body),
      responses: responses.map(contentOf),
      against,
      reference,
      max_input_tokens: null,
      max_response_tokens: null,
      max_prompt_tokens: null,
    } as const;
    const answer = await timed(c, 'backend', c.get('services').backend.score(call, backendCall(c)));
    settleReward(c, answer);
    const data = answer.data.map(({ index, probability, logit, raw, criteria, truncated, input_tokens }) => ({
      index,
      id: idOf(responses[index]),
      score: { probability, logit, raw }[SCALES[body.scale ?? 'unit']],
      logit,
      ...(include?.includes('probabilities') ? { probability } : {}),
      criteria,
      truncated,
      input_tokens,
    }));
    const shared = toRewardAnswer(c, 'scores', body, answer);
    return c.json({ ...shared, object: 'reward.score' as const, against, data }, 200);
  });
}
