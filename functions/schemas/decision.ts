// The body and the answer of POST /v1/decisions.
import { z } from '@hono/zod-openapi';
import { DecisionInputSchema } from './decision-input';
import { DecisionAnswerSchema, QuestionSchema } from './decision-question';
import { rewardModel, truncation } from './reward-request';
import { ReadUsageSchema } from './reward-usage';

const count = z.int().min(0);
const accepted = 'Accepted without effect.';

export const CreateDecisionSchema = z
  .strictObject({
    model: rewardModel,
    input: DecisionInputSchema,
    questions: z.array(QuestionSchema).min(1).max(400),
    truncation,
    user: z.string().max(128).nullish(),
    safety_identifier: z.string().max(512).nullish().openapi({ description: accepted }),
    prompt_cache_key: z.string().max(512).nullish().openapi({ description: accepted }),
    prompt_cache_options: z.unknown().optional().openapi({ description: accepted }),
  })
  .openapi('CreateDecisionRequest', {
    example: {
      model: 'gram-smollm2-135m',
      input: 'The parcel came two weeks late, and the box was open.',
      questions: [
        { type: 'predicate', name: 'complaint', instructions: 'Is the customer unhappy?' },
        {
          type: 'choice',
          name: 'topic',
          instructions: 'What is it about?',
          choices: [{ value: 'delivery' }, { value: 'payment' }],
        },
      ],
    },
  });

/** What the backend answers about questions on one input. */
export const DecisionsAnswerSchema = z.object({
  answers: z.array(z.object({ probabilities: z.array(z.number().min(0).max(1)).min(2) })),
  truncated: z.boolean(),
  usage: ReadUsageSchema,
});

export type DecisionsAnswer = z.output<typeof DecisionsAnswerSchema>;

export const DecisionSchema = z
  .object({
    model: z.string(),
    answers: z.array(DecisionAnswerSchema).openapi({ description: 'In the order of the questions.' }),
    truncated: z.boolean().openapi({ description: 'The input was too long and was cut.' }),
    usage: z.object({
      input_tokens: count,
      input_tokens_details: z.object({ cached_tokens: count, cache_write_tokens: count }),
      output_tokens: count,
      output_tokens_details: z.object({ reasoning_tokens: count }),
      total_tokens: count,
    }),
  })
  .openapi('Decision', {
    example: {
      model: 'gram-smollm2-135m',
      answers: [
        { type: 'predicate', name: 'complaint', probability: 0.91 },
        {
          type: 'choice',
          name: 'topic',
          choice: 'delivery',
          confidence: 0.88,
          probabilities: [
            { value: 'delivery', probability: 0.88 },
            { value: 'payment', probability: 0.12 },
          ],
        },
      ],
      truncated: false,
      usage: {
        input_tokens: 148,
        input_tokens_details: { cached_tokens: 48, cache_write_tokens: 0 },
        output_tokens: 0,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: 148,
      },
    },
  });
