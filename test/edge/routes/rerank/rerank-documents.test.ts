// POST /v2/rerank and /v1/rerank.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey, seenByBackend } from '../../../support/harness';
import { testJudging } from '../../../support/judging-tests';
import { testRouteSecurity } from '../../../support/route-security-tests';

const body = { model: 'fake-judge', query: 'Which?', documents: ['1', { text: '3', lang: 'en' }, '2', '3'] };

testRouteSecurity({
  operationId: 'rerankDocuments',
  method: 'POST',
  path: '/v2/rerank',
  body,
  scope: 'rewards:write',
});

testRouteSecurity({
  operationId: 'rerankDocumentsForJina',
  method: 'POST',
  path: '/v1/rerank',
  body,
  scope: 'rewards:write',
});

// Four documents against the anchor in two orders, at 10 tokens each.
testJudging({ path: '/v2/rerank', body, inputTokens: 80 });

describe.each(['/v1/rerank', '/v2/rerank'])('POST %s', (path) => {
  const send = async (changes: Record<string, unknown> = {}) =>
    call(path, { key: await makeKey(), body: { ...body, ...changes } });

  it('returns 200 with the best first, ties in the order of the request', async () => {
    const response = await send();
    expect(response.status).toBe(200);
    const best = (1 / (1 + Math.exp(-3.5)) + 1 / (1 + Math.exp(-2.5))) / 2;
    const answer = await response.json<{ results: { index: number }[] }>();
    expect(answer).toMatchObject({
      id: expect.stringMatching(/^rnk_/) as string,
      object: 'list',
      model: 'fake-judge',
      meta: {
        api_version: { version: path.slice(2, 3) },
        billed_units: { input_tokens: 80, output_tokens: 0 },
      },
      usage: { total_tokens: 80 },
    });
    expect(answer.results[0]).toEqual({ index: 1, relevance_score: best });
    expect(answer.results.map(({ index }) => index)).toEqual([1, 3, 2, 0]);
  });

  it('scores against the anchor, with the query as the question', async () => {
    const response = await send({ truncation: null, top_n: null, return_documents: null, priority: 0 });
    expect((await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body).toMatchObject({
      input: [{ role: 'user', content: 'Which?' }],
      responses: ['1', '3', '2', '3'],
      against: 'anchor',
      reference: null,
      criteria: [],
      truncation: 'auto',
    });
  });

  it('gives as many as are asked for, and the documents when they are', async () => {
    const { results } = await (
      await send({ top_n: 3, return_documents: true })
    ).json<{ results: { document: unknown }[] }>();
    expect(results.map(({ document }) => document)).toEqual([
      { text: '3', lang: 'en' },
      { text: '3' },
      { text: '2' },
    ]);
  });

  it('reads no more of a document than it is told', async () => {
    const response = await send({ documents: ['1 and 9', '2', 'no 3'], max_tokens_per_doc: 3 });
    const { results } = await response.json<{ results: { index: number }[] }>();
    expect(results.map(({ index }) => index)).toEqual([1, 0, 2]);
    expect((await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body).toMatchObject({
      max_input_tokens: null,
      max_response_tokens: 3,
      max_prompt_tokens: null,
    });
  });

  it('takes 1000 documents', async () => {
    const response = await send({ documents: Array.from({ length: 1000 }, (_, i) => String(i % 7)) });
    expect((await response.json<{ results: unknown[] }>()).results).toHaveLength(1000);
  });

  it.each<[Record<string, unknown>, string, string]>([
    [{ query: undefined }, 'missing_required_parameter', 'query'],
    [{ query: ['a'] }, 'invalid_type', 'query'],
    [{ documents: undefined }, 'missing_required_parameter', 'documents'],
    [{ documents: [] }, 'invalid_value', 'documents'],
    [{ documents: Array.from({ length: 1001 }, () => 'a') }, 'invalid_value', 'documents'],
    [{ documents: ['a', 5] }, 'invalid_type', 'documents[1]'],
    [{ documents: ['a', { title: 'b' }] }, 'missing_required_parameter', 'documents[1].text'],
    [{ top_n: 0 }, 'invalid_value', 'top_n'],
    [{ max_tokens_per_doc: 0 }, 'invalid_value', 'max_tokens_per_doc'],
    [{ max_tokens_per_doc: '9' }, 'invalid_type', 'max_tokens_per_doc'],
    [{ max_chunks_per_doc: 2 }, 'unsupported_parameter', 'max_chunks_per_doc'],
    [{ rank_fields: ['title'] }, 'unsupported_parameter', 'rank_fields'],
  ])('returns 400 for %j', async (changes, code, param) => {
    const response = await send(changes);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });

  it('names its own parameters when the backend refuses one', async () => {
    const long = 'x'.repeat(5000);
    const document = await errorOf(await send({ documents: ['a', long], truncation: 'disabled' }));
    expect(document).toMatchObject({ code: 'context_length_exceeded', param: 'documents[1]' });
    expect(document.message).toBe('documents[1] is too long.');
    const query = await errorOf(await send({ query: long, truncation: 'disabled' }));
    expect(query).toMatchObject({ code: 'context_length_exceeded', param: 'query' });
  });
});
