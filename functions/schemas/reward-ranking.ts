// The body and the answer of POST /v1/rewards/rank.
import { z } from '@hono/zod-openapi';
import { MetadataSchema } from './chat-completion';
import { RewardDepthSchema } from './early-exit';
import { RewardResponseSchema } from './reward-input';
import { checkAsked, rewardParameters } from './reward-request';
import { ReadUsageSchema, RewardUsageSchema } from './reward-usage';

const probability = z.number().min(0).max(1);
const count = z.int().min(0);

const METHODS = ['scan', 'round_robin', 'adaptive'] as const;

export const RankResponsesSchema = z
  .strictObject({
    ...rewardParameters,
    responses: z.array(RewardResponseSchema).min(2).max(64),
    method: z
      .enum(['auto', ...METHODS])
      .nullish()
      .openapi({
        default: 'auto',
        description:
          '`scan` keeps the best of the answers in their order, `round_robin` compares all pairs, `adaptive` compares neighbours until the first is certain, with 3 pairs for each answer unless `max_comparisons` says otherwise, `auto` is `round_robin` for up to 8 answers and `adaptive` for more.',
      }),
    top_n: z
      .int()
      .min(1)
      .nullish()
      .openapi({ description: 'How many results to give, best first; all when absent.' }),
    max_comparisons: z.int().min(1).nullish().openapi({ description: 'Most pairs to compare.' }),
  })
  .superRefine((body, context) => checkAsked(body, [], context))
  .openapi('RankResponsesRequest', {
    example: {
      model: 'gram-smollm2-135m',
      input: 'What is the capital of France?',
      responses: [
        'Bananas are yellow.',
        'The capital of France is Paris.',
        { id: 'shrug', content: 'No idea.' },
      ],
    },
  });

/** What the backend answers, best first. */
export const RankingAnswerSchema = z.object({
  method: z.enum(METHODS),
  results: z.array(
    z.object({
      index: count,
      rank: z.int().min(1),
      score: probability,
      strength: z.number(),
      standard_error: z.number().min(0),
      win_rate: probability,
      comparisons: count,
    }),
  ),
  best_index: count,
  cycles: count,
  is_certain: z.boolean(),
  truncated: z.array(z.boolean()),
  num_comparisons: count,
  num_forwards: count,
  usage: ReadUsageSchema,
  early_exit: RewardDepthSchema.nullable(),
});

export type RankingAnswer = z.output<typeof RankingAnswerSchema>;

export const RankingSchema = z
  .object({
    id: z.string(),
    object: z.literal('reward.ranking'),
    created: count,
    model: z.string(),
    method: z.enum(METHODS).openapi({ description: 'What was used.' }),
    comparisons: count.openapi({ description: 'How many pairs were compared.' }),
    best_index: count,
    is_certain: z.boolean().openapi({ description: 'That the first is the best is certain at 95 %.' }),
    cycles: count.openapi({ description: 'Triples of compared answers of which each one beats the next.' }),
    results: z.array(
      z.object({
        index: count.openapi({ description: 'The place in the request.' }),
        id: z.string().nullable(),
        rank: z.int().min(1),
        score: probability.openapi({ description: 'The mean probability to beat the others.' }),
        relevance_score: probability.openapi({
          description: 'The same, in the name that rerank clients read.',
        }),
        strength: z.number().openapi({ description: 'In the Bradley-Terry model, as log-odds.' }),
        standard_error: z.number().min(0).openapi({ description: 'Of the strength.' }),
        win_rate: probability.openapi({ description: 'How many of its comparisons it won.' }),
        comparisons: count,
        truncated: z.boolean(),
      }),
    ),
    usage: RewardUsageSchema,
    early_exit: RewardDepthSchema.optional().openapi({ description: 'Where the request named it.' }),
    metadata: MetadataSchema.optional(),
  })
  .openapi('RewardRanking', {
    example: {
      id: 'rnk_01KAV5W1Q2M3N4P5R6S7T8V9WX',
      object: 'reward.ranking',
      created: 1764000000,
      model: 'gram-smollm2-135m',
      method: 'round_robin',
      comparisons: 3,
      best_index: 1,
      is_certain: true,
      cycles: 0,
      results: [
        {
          index: 1,
          id: null,
          rank: 1,
          score: 0.87,
          relevance_score: 0.87,
          strength: 1.6,
          standard_error: 0.4,
          win_rate: 1,
          comparisons: 2,
          truncated: false,
        },
      ],
      usage: {
        input_tokens: 504,
        output_tokens: 0,
        total_tokens: 504,
        input_tokens_details: { cached_tokens: 144 },
      },
    },
  });
