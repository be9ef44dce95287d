// POST /v1/decisions: up to 400 questions about one input, in OpenAI's shape.
import type { z } from '@hono/zod-openapi';
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import { backendCall } from '../../backend-call';
import type { App } from '../../context';
import { always } from '../../middleware/exit-ladder';
import { timed } from '../../middleware/timing';
import { CreateDecisionSchema, DecisionSchema } from '../../schemas/decision';
import { toDecisionTurns } from '../../schemas/decision-input';
import { paramsOf, toDecisionAnswer, toPlainQuestion } from '../../schemas/decision-question';
import { MAX_REWARD_BODY_BYTES } from '../../schemas/reward-request';
import type { ReadUsage } from '../../schemas/reward-usage';
import { mostTokensOf } from '../prompt-bounds';
import { withParams } from '../rename-params';
import { callerOf, settleRead } from '../rewards/reward-call';
import { estimateReading, listOf, mostReadOnce, type RewardBody } from '../rewards/reward-estimate';

const MAX_QUESTIONS = 400;

const route = createApiRoute({
  method: 'post',
  path: '/v1/decisions',
  operationId: 'createDecision',
  tags: ['Decisions'],
  summary: 'Answer questions about an input',
  description:
    "OpenAI's Decisions: whether statements about an input are true, which of some choices fits it, and on which level it is, with probabilities. Nothing is generated; the input is read once for all questions.",
  access: 'rewards:write',
  metering: estimateReading(mostRead),
  cacheable: always,
  maxBodyBytes: MAX_REWARD_BODY_BYTES,
  request: {
    body: { required: true, content: { 'application/json': { schema: CreateDecisionSchema } } },
  },
  responses: {
    200: { description: 'The answers.', content: { 'application/json': { schema: DecisionSchema } } },
  },
  errors: ['model_not_found', 'context_length_exceeded', ...BACKEND_ERRORS],
});

export function registerCreateDecision(app: App): void {
  app.openapi(route, async (c) => {
    const { model, input, questions, truncation, user } = c.req.valid('json');
    const decisions = {
      model,
      input: toDecisionTurns(input),
      questions: questions.map(toPlainQuestion),
      truncation: truncation ?? 'auto',
      ...callerOf(c, user),
    } as const;
    const params = Object.fromEntries(questions.flatMap(paramsOf));
    const deciding = withParams(params, c.get('services').backend.decide(decisions, backendCall(c)));
    const answer = await timed(c, 'backend', deciding);
    settleRead(c, answer.usage);
    const answers = questions.map((question, index) =>
      toDecisionAnswer(question, answer.answers[index]?.probabilities ?? []),
    );
    return c.json({ model, answers, truncated: answer.truncated, usage: toUsage(answer.usage) }, 200);
  });
}

function toUsage({ input_tokens, cached_tokens }: ReadUsage): z.output<typeof DecisionSchema>['usage'] {
  return {
    input_tokens,
    input_tokens_details: { cached_tokens, cache_write_tokens: 0 },
    output_tokens: 0,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: input_tokens,
  };
}

/** The input with each question. */
function mostRead(body: RewardBody, contextLength: number): number {
  const questions = listOf(body['questions']).slice(0, MAX_QUESTIONS);
  return mostReadOnce(mostTokensOf(body['input']), questions, contextLength);
}
