// The body and the answer of POST /v1/rewards/score.
import { z } from '@hono/zod-openapi';
import { MetadataSchema } from './chat-completion';
import { RewardDepthSchema } from './early-exit';
import { RewardResponseSchema } from './reward-input';
import { checkAsked, rewardParameters } from './reward-request';
import { ReadUsageSchema, RewardUsageSchema } from './reward-usage';

const probability = z.number().min(0).max(1);

export const AGAINST = ['others', 'reference', 'anchor'] as const;

export const ScoreResponsesSchema = z
  .strictObject({
    ...rewardParameters,
    responses: z.array(RewardResponseSchema).min(1).max(128),
    reference: z.string().nullish().openapi({
      description:
        'An answer that each one is compared with. Without it, several answers are compared with each other, and a single one with a fixed poor answer.',
    }),
    scale: z.enum(['unit', 'logit', 'raw']).nullish().openapi({
      default: 'unit',
      description:
        'What `score` is: the probability that the answer is the better one, its log-odds, or the difference of logits before calibration.',
    }),
  })
  .superRefine((body, context) => checkAsked(body, ['probabilities'], context))
  .openapi('ScoreResponsesRequest', {
    example: {
      model: 'gram-smollm2-135m',
      input: 'What is the capital of France?',
      responses: ['The capital of France is Paris.', { id: 'short', content: 'Paris.' }, 'I am a teapot.'],
      criteria: [{ name: 'correctness' }, { name: 'clarity', weight: 0.5 }],
    },
  });

/** What the backend answers, in the order of the request. */
export const ScoresAnswerSchema = z.object({
  data: z.array(
    z.object({
      index: z.int().min(0),
      probability,
      logit: z.number(),
      raw: z.number(),
      criteria: z.record(z.string(), probability),
      truncated: z.boolean(),
      input_tokens: z.int().min(0),
    }),
  ),
  num_comparisons: z.int().min(0),
  num_forwards: z.int().min(0),
  usage: ReadUsageSchema,
  early_exit: RewardDepthSchema.nullable(),
});

export type ScoresAnswer = z.output<typeof ScoresAnswerSchema>;

export const ScoresSchema = z
  .object({
    id: z.string(),
    object: z.literal('reward.score'),
    created: z.int().min(0),
    model: z.string(),
    against: z.enum(AGAINST).openapi({ description: 'What the answers were compared with.' }),
    data: z.array(
      z.object({
        index: z.int().min(0).openapi({ description: 'The place in the request.' }),
        id: z.string().nullable(),
        score: z.number(),
        logit: z.number(),
        probability: probability.optional().openapi({ description: 'With `include: ["probabilities"]`.' }),
        criteria: z.record(z.string(), probability).openapi({ description: 'The probability by criterion.' }),
        truncated: z.boolean(),
        input_tokens: z.int().min(0),
      }),
    ),
    usage: RewardUsageSchema,
    early_exit: RewardDepthSchema.optional().openapi({ description: 'Where the request named it.' }),
    metadata: MetadataSchema.optional(),
  })
  .openapi('RewardScores', {
    example: {
      id: 'rwd_01KAV5W1Q2M3N4P5R6S7T8V9WX',
      object: 'reward.score',
      created: 1764000000,
      model: 'gram-smollm2-135m',
      against: 'anchor',
      data: [
        { index: 0, id: null, score: 0.81, logit: 1.45, criteria: {}, truncated: false, input_tokens: 164 },
      ],
      usage: {
        input_tokens: 164,
        output_tokens: 0,
        total_tokens: 164,
        input_tokens_details: { cached_tokens: 48 },
      },
    },
  });
