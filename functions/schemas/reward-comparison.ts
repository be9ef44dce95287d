// The body and the answer of POST /v1/rewards/compare.
import { z } from '@hono/zod-openapi';
import { MetadataSchema } from './chat-completion';
import { RewardDepthSchema } from './early-exit';
import { checkAsked, rewardParameters } from './reward-request';
import { ReadUsageSchema, RewardUsageSchema } from './reward-usage';

const probability = z.number().min(0).max(1);

export const CompareResponsesSchema = z
  .strictObject({
    ...rewardParameters,
    a: z.string(),
    b: z.string(),
    order: z.enum(['both', 'ab', 'ba']).nullish().openapi({
      default: 'both',
      description:
        'Which answer is read first. `both` reads the pair twice, so that the place of an answer does not count.',
    }),
    allow_tie: z.boolean().nullish().openapi({
      default: true,
      description: 'Whether the answer may be `tie`: when the orders disagree, or within `tie_margin`.',
    }),
    tie_margin: z.number().min(0).max(1).nullish().openapi({ default: 0 }),
  })
  .superRefine((body, context) => checkAsked(body, ['probabilities', 'orders', 'tokens'], context))
  .openapi('CompareResponsesRequest', {
    example: {
      model: 'gram-smollm2-135m',
      input: 'What is the capital of France?',
      a: 'The capital of France is Paris.',
      b: 'Bananas are yellow.',
    },
  });

/** What the backend answers. */
export const ComparisonAnswerSchema = z.object({
  winner: z.enum(['a', 'b', 'tie']),
  probability_a: probability,
  margin: probability,
  logit: z.number(),
  raw: z.number(),
  consistent: z.boolean().nullable(),
  position_bias_delta: probability.nullable(),
  orders: z.array(
    z.object({
      first: z.enum(['a', 'b']),
      probability_a: probability,
      logprobs: z.object({ A: z.number(), B: z.number() }),
    }),
  ),
  criteria: z.record(z.string(), probability),
  truncated: z.object({ input: z.boolean(), a: z.boolean(), b: z.boolean() }),
  num_comparisons: z.int().min(0),
  num_forwards: z.int().min(0),
  usage: ReadUsageSchema,
  early_exit: RewardDepthSchema.nullable(),
});

export type ComparisonAnswer = z.output<typeof ComparisonAnswerSchema>;

export const ComparisonSchema = ComparisonAnswerSchema.pick({ winner: true, truncated: true })
  .extend({
    id: z.string(),
    object: z.literal('reward.comparison'),
    created: z.int().min(0),
    model: z.string(),
    probability_a: probability.openapi({ description: 'How likely it is that `a` is better, calibrated.' }),
    margin: probability.openapi({ description: 'How far the probability is from even: 0 even, 1 sure.' }),
    logit: z.number().openapi({ description: 'The probability as log-odds.' }),
    consistent: z.boolean().nullable().openapi({ description: 'Both orders agree; null for one order.' }),
    position_bias_delta: probability.nullable().openapi({
      description: 'How much the probability moves when the answers change places; null for one order.',
    }),
    criteria: z.record(z.string(), probability).openapi({ description: '`probability_a` by criterion.' }),
    probabilities: z.object({ a: probability, b: probability }).optional().openapi({
      description: 'With `include: ["probabilities"]`.',
    }),
    orders: z
      .array(
        z.object({
          first: z.enum(['a', 'b']),
          probability_a: probability,
          logprobs: z.object({ A: z.number(), B: z.number() }).optional().openapi({
            description:
              'With `include: ["tokens"]`: of the tokens that stand for the first and the second answer.',
          }),
        }),
      )
      .optional()
      .openapi({ description: 'With `include: ["orders"]` or `["tokens"]`.' }),
    usage: RewardUsageSchema,
    early_exit: RewardDepthSchema.optional().openapi({ description: 'Where the request named it.' }),
    metadata: MetadataSchema.optional(),
  })
  .openapi('RewardComparison', {
    example: {
      id: 'cmp_01KAV5W1Q2M3N4P5R6S7T8V9WX',
      object: 'reward.comparison',
      created: 1764000000,
      model: 'gram-smollm2-135m',
      winner: 'a',
      probability_a: 0.78,
      margin: 0.56,
      logit: 1.27,
      consistent: true,
      position_bias_delta: 0.04,
      criteria: {},
      truncated: { input: false, a: false, b: false },
      usage: {
        input_tokens: 168,
        output_tokens: 0,
        total_tokens: 168,
        input_tokens_details: { cached_tokens: 48 },
      },
    },
  });
