// POST /v2/rerank and /v1/rerank: documents in the order in which they answer a query, for Cohere's and Jina's clients.
import type { Context } from 'hono';
import type { z } from '@hono/zod-openapi';
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import { backendCall } from '../../backend-call';
import type { App, AppEnv } from '../../context';
import { newId } from '../../lib/id';
import { always } from '../../middleware/exit-ladder';
import { timed } from '../../middleware/timing';
import { MAX_REWARD_BODY_BYTES } from '../../schemas/reward-request';
import { toRewardUsage } from '../../schemas/reward-usage';
import { RerankDocumentsSchema, RerankingSchema, textOf, toDocument } from '../../schemas/rerank';
import { mostTokensOf } from '../prompt-bounds';
import { withParams } from '../rename-params';
import { toAnchorCall, settleRead } from '../rewards/reward-call';
import { estimateReading, listOf, mostReadAlone } from '../rewards/reward-estimate';

const declare = <Path extends string>(path: Path, operationId: string, note: string) =>
  createApiRoute({
    method: 'post',
    path,
    operationId,
    tags: ['Rerank'],
    summary: 'Rerank documents',
    description: `Scores each document as an answer to the query, and gives the best first, in the shape that Cohere's and Jina's clients read. ${note}`,
    access: 'rewards:write',
    metering: estimateReading((body, contextLength) =>
      mostReadAlone(mostTokensOf(body['query']), listOf(body['documents']), contextLength),
    ),
    cacheable: always,
    maxBodyBytes: MAX_REWARD_BODY_BYTES,
    request: {
      body: { required: true, content: { 'application/json': { schema: RerankDocumentsSchema } } },
    },
    responses: {
      200: { description: 'The order.', content: { 'application/json': { schema: RerankingSchema } } },
    },
    errors: ['model_not_found', 'context_length_exceeded', ...BACKEND_ERRORS],
  });

const v1 = declare(
  '/v1/rerank',
  'rerankDocumentsForJina',
  "The same as `/v2/rerank`, at the path of Jina's and older clients.",
);
const v2 = declare(
  '/v2/rerank',
  'rerankDocuments',
  'A score says how much better the document is than no answer.',
);

export function registerRerankDocuments(app: App): void {
  app.openapi(v1, async (c) => c.json(await rerank(c, c.req.valid('json'), '1'), 200));
  app.openapi(v2, async (c) => c.json(await rerank(c, c.req.valid('json'), '2'), 200));
}

async function rerank(
  c: Context<AppEnv>,
  body: z.output<typeof RerankDocumentsSchema>,
  version: string,
): Promise<z.output<typeof RerankingSchema>> {
  const { model, query, documents } = body;
  const scores = toAnchorCall(c, body, query, documents.map(textOf));
  const judging = c.get('services').backend.score(scores, backendCall(c));
  const { data, usage } = await timed(
    c,
    'backend',
    withParams({ input: 'query', responses: 'documents' }, judging),
  );
  settleRead(c, usage);
  const results = data
    .map(({ index, probability }) => ({ index, relevance_score: probability }))
    .sort((a, b) => b.relevance_score - a.relevance_score || a.index - b.index)
    .slice(0, body.top_n ?? documents.length)
    .map((result) => {
      const document = documents[result.index];
      return body.return_documents && document !== undefined
        ? { ...result, document: toDocument(document) }
        : result;
    });
  const tokens = { input_tokens: usage.input_tokens, output_tokens: 0 };
  return {
    id: newId('ranking'),
    object: 'list',
    model,
    results,
    meta: { api_version: { version }, billed_units: tokens, tokens },
    usage: toRewardUsage(usage),
  };
}
