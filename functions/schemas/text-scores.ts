// The body and the answer of POST /v1/score: what vLLM's clients send and read.
import { z } from '@hono/zod-openapi';
import { checkKeys, rejectWith } from './reject';
import { rewardModel, truncation } from './reward-request';

const count = z.int().min(0);
const MAX_PAIRS = 64;

const mostTokens = z.int().min(1).nullish();
const texts = z.union([z.string(), z.array(z.string()).min(1).max(1000)]).nullish();

/** The names that each side has, the first one first in the documentation. */
const FIRST = ['text_1', 'queries', 'data_1'] as const satisfies Side;
const SECOND = ['text_2', 'documents', 'items', 'data_2'] as const satisfies Side;

const parameters = {
  model: rewardModel,
  text_1: texts.openapi({ description: 'The question, or as many as there are answers.' }),
  queries: texts.openapi({ description: 'Another name of `text_1`, like `data_1`.' }),
  data_1: texts,
  text_2: texts.openapi({ description: 'The answers.' }),
  documents: texts.openapi({ description: 'Another name of `text_2`, like `items` and `data_2`.' }),
  items: texts,
  data_2: texts,
  use_activation: z.boolean().nullish().openapi({
    default: true,
    description: 'With `false` scores are log-odds instead of probabilities.',
  }),
  max_tokens_per_query: mostTokens.openapi({
    description: 'Of each question at most so many tokens are read, from its beginning; all when absent.',
  }),
  max_tokens_per_doc: mostTokens.openapi({ description: 'The same for each answer.' }),
  truncate_prompt_tokens: z.int().min(-1).nullish().openapi({
    description:
      'Most tokens of a prompt: one pair, the answer that it is compared with, and the words around them; -1 for as many as the model reads, which is the default.',
  }),
  truncation,
  user: z.string().max(128).nullish(),
};

const UNSUPPORTED = [
  'activation',
  'chat_template',
  'instruction',
  'mm_processor_kwargs',
  'priority',
  'softmax',
  'truncation_side',
];

type Name = 'text_1' | 'queries' | 'data_1' | 'text_2' | 'documents' | 'items' | 'data_2';
type Side = readonly [Name, ...Name[]];
type Sides = Partial<Record<Name, z.output<typeof texts>>>;

/** The name under which a side was given, and its texts. */
function readSide(body: Sides, side: Side) {
  const name = side.find((known) => body[known] !== undefined && body[known] !== null) ?? side[0];
  const given = body[name];
  return { name, isList: Array.isArray(given), texts: Array.isArray(given) ? given : [given ?? ''] };
}

export const sidesOf = (body: Sides) => ({
  first: readSide(body, FIRST),
  second: readSide(body, SECOND),
});

export const ScoreTextsSchema = z
  .looseObject(parameters)
  .superRefine((body, context) => {
    checkKeys(body, Object.keys(parameters), UNSUPPORTED, context);
    for (const side of [FIRST, SECOND] satisfies Side[]) {
      const [given, another] = side.filter((name) => body[name] !== undefined && body[name] !== null);
      if (given === undefined) rejectWith('missing_required_parameter', [side[0]], 'is missing', context);
      if (another !== undefined) {
        rejectWith('invalid_value', [another], `must not be given together with '${given}'`, context);
      }
    }
    if (body.truncate_prompt_tokens === 0) {
      rejectWith('invalid_value', ['truncate_prompt_tokens'], 'must not be 0', context);
    }
    const { first, second } = sidesOf(body);
    const numPairs = first.texts.length;
    if (numPairs === 1) return;
    if (numPairs !== second.texts.length) {
      const message = `must have as many texts as '${first.name}', or '${first.name}' only one`;
      rejectWith('invalid_value', [second.name], message, context);
    } else if (numPairs > MAX_PAIRS) {
      rejectWith('invalid_value', [first.name], `must have one text or at most ${MAX_PAIRS}`, context);
    }
  })
  .openapi('ScoreTextsRequest', {
    additionalProperties: false,
    example: {
      model: 'gram-smollm2-135m',
      text_1: 'What is the capital of France?',
      text_2: ['Bananas are yellow.', 'The capital of France is Paris.'],
    },
  });

export const TextScoresSchema = z
  .object({
    id: z.string(),
    object: z.literal('list'),
    created: count,
    model: z.string(),
    data: z.array(z.object({ index: count, object: z.literal('score'), score: z.number() })),
    usage: z.object({
      prompt_tokens: count,
      completion_tokens: count,
      total_tokens: count,
      prompt_tokens_details: z.object({ cached_tokens: count }),
    }),
  })
  .openapi('TextScores', {
    example: {
      id: 'rwd_01KAV5W1Q2M3N4P5R6S7T8V9WX',
      object: 'list',
      created: 1764000000,
      model: 'gram-smollm2-135m',
      data: [
        { index: 0, object: 'score', score: 0.31 },
        { index: 1, object: 'score', score: 0.83 },
      ],
      usage: {
        prompt_tokens: 316,
        completion_tokens: 0,
        total_tokens: 316,
        prompt_tokens_details: { cached_tokens: 96 },
      },
    },
  });
