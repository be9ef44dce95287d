// The body and the answer of POST /v2/rerank and /v1/rerank: what Cohere's and Jina's clients send and read.
import { z } from '@hono/zod-openapi';
import { checkKeys } from './reject';
import { rewardModel, truncation } from './reward-request';
import { RewardUsageSchema } from './reward-usage';

const count = z.int().min(0);

const DocumentSchema = z
  .union([z.string(), z.object({ text: z.string() }).catchall(z.string())])
  .openapi('RerankDocument', {
    description: 'A text, or an object with one; its other fields come back with it.',
  });

type Document = z.output<typeof DocumentSchema>;

const parameters = {
  model: rewardModel,
  query: z.string(),
  documents: z.array(DocumentSchema).min(1).max(1000),
  top_n: z.int().min(1).nullish().openapi({ description: 'How many results to give; all when absent.' }),
  return_documents: z.boolean().nullish().openapi({ default: false }),
  max_tokens_per_doc: z.int().min(1).nullish().openapi({
    description: 'Of each document at most so many tokens are read, from its beginning; all when absent.',
  }),
  truncation,
  user: z.string().max(128).nullish(),
  priority: z.int().nullish().openapi({ description: 'Accepted without effect.' }),
};

/** What these clients can send and what would change the answer: documents are read as one piece. */
const UNSUPPORTED = ['max_chunks_per_doc', 'rank_fields'];

export const RerankDocumentsSchema = z
  .looseObject(parameters)
  .superRefine((body, context) => checkKeys(body, Object.keys(parameters), UNSUPPORTED, context))
  .openapi('RerankDocumentsRequest', {
    additionalProperties: false,
    example: {
      model: 'gram-smollm2-135m',
      query: 'What is the capital of France?',
      documents: ['Bananas are yellow.', 'The capital of France is Paris.'],
      top_n: 1,
    },
  });

export const textOf = (document: Document): string =>
  typeof document === 'string' ? document : document.text;

export const toDocument = (document: Document) =>
  typeof document === 'string' ? { text: document } : document;

const tokens = z.object({ input_tokens: count, output_tokens: count });

export const RerankingSchema = z
  .object({
    id: z.string(),
    object: z.literal('list'),
    model: z.string(),
    results: z.array(
      z.object({
        index: count.openapi({ description: 'The place in the request.' }),
        relevance_score: z.number().min(0).max(1),
        document: z.object({ text: z.string() }).catchall(z.string()).optional(),
      }),
    ),
    meta: z.object({
      api_version: z.object({ version: z.string() }),
      billed_units: tokens,
      tokens,
    }),
    usage: RewardUsageSchema,
  })
  .openapi('Reranking', {
    example: {
      id: 'rnk_01KAV5W1Q2M3N4P5R6S7T8V9WX',
      object: 'list',
      model: 'gram-smollm2-135m',
      results: [{ index: 1, relevance_score: 0.83 }],
      meta: {
        api_version: { version: '2' },
        billed_units: { input_tokens: 316, output_tokens: 0 },
        tokens: { input_tokens: 316, output_tokens: 0 },
      },
      usage: {
        input_tokens: 316,
        output_tokens: 0,
        total_tokens: 316,
        input_tokens_details: { cached_tokens: 96 },
      },
    },
  });
