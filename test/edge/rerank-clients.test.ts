// The unmodified clients of Cohere and OpenAI against the reward model: reranking and decisions.
import { CohereClient, CohereClientV2, CohereError } from 'cohere-ai';
import OpenAI from 'openai';
import { describe, expect, it } from 'vitest';
import { call, makeKey, ORIGIN } from '../support/harness';

/** A fetch that goes straight into the app. */
const intoApp: typeof fetch = async (input, init) => {
  const request = new Request(input, init);
  return call(new URL(request.url).pathname, {
    method: request.method,
    headers: Object.fromEntries(request.headers),
    body: await request.text(),
  });
};

const cohere = { environment: ORIGIN, fetch: intoApp };
const documents = ['Bananas 1', 'Paris 3', 'Rome 2'];

describe("Cohere's client", () => {
  it('reranks texts, version 2', async () => {
    const client = new CohereClientV2({ ...cohere, token: await makeKey() });
    const { id, results, meta } = await client.rerank({
      model: 'fake-judge',
      query: 'Which?',
      documents,
      topN: 2,
    });
    expect(id).toMatch(/^rnk_/);
    expect(results.map(({ index }) => index)).toEqual([1, 2]);
    expect(results[0]?.relevanceScore).toBeGreaterThan(results[1]?.relevanceScore ?? 1);
    expect(meta?.apiVersion?.version).toBe('2');
    expect(meta?.tokens?.inputTokens).toBe(60);
  });

  it('reranks objects and gives them back, version 1', async () => {
    const client = new CohereClient({ ...cohere, token: await makeKey() });
    const { results } = await client.rerank({
      model: 'fake-judge',
      query: 'Which?',
      documents: documents.map((text) => ({ text })),
      returnDocuments: true,
    });
    expect(results.map(({ document }) => document?.text)).toEqual(['Paris 3', 'Rome 2', 'Bananas 1']);
  });

  it('has only the beginning of each document read', async () => {
    const client = new CohereClientV2({ ...cohere, token: await makeKey() });
    const request = { model: 'fake-judge', query: 'Which?', documents: ['Bananas 9', '2', 'on 1'] };
    const order = async (changes: { maxTokensPerDoc?: number }) =>
      (await client.rerank({ ...request, ...changes })).results.map(({ index }) => index);
    expect(await order({})).toEqual([0, 1, 2]);
    expect(await order({ maxTokensPerDoc: 4 })).toEqual([1, 2, 0]);
  });

  it('throws typed errors, once', async () => {
    const client = new CohereClientV2({ ...cohere, token: 'nobody' });
    const request = { model: 'fake-judge', query: 'Which?', documents };
    await expect(client.rerank(request)).rejects.toMatchObject({ statusCode: 401 });
    const known = new CohereClientV2({ ...cohere, token: await makeKey() });
    const refused = known.rerank({ ...request, maxTokensPerDoc: 0 });
    await expect(refused).rejects.toBeInstanceOf(CohereError);
    await expect(refused).rejects.toMatchObject({ statusCode: 400 });
  });
});

describe("OpenAI's client", () => {
  const makeClient = async () =>
    new OpenAI({
      apiKey: await makeKey(),
      baseURL: `${ORIGIN}/v1`,
      dangerouslyAllowBrowser: true,
      fetch: intoApp,
    });

  it('gets decisions of all kinds', async () => {
    const client = await makeClient();
    const decision = await client.decisions.create({
      model: 'fake-judge',
      input: [{ role: 'user', content: [{ type: 'input_text', text: 'It came late.' }] }],
      questions: [
        { type: 'predicate', name: 'late', instructions: 'Was it late?' },
        { type: 'choice', instructions: 'What?', choices: [{ value: 'parcel 3' }, { value: false }] },
        { type: 'score', instructions: 'How late?', levels: [{ label: 'a bit' }, { label: 'much 1' }] },
      ],
      safety_identifier: 's',
    });
    expect(decision.model).toBe('fake-judge');
    expect(decision.answers).toEqual([
      { type: 'predicate', name: 'late', probability: 0.5 },
      {
        type: 'choice',
        name: null,
        choice: 'parcel 3',
        confidence: 0.8,
        probabilities: [
          { value: 'parcel 3', probability: 0.8 },
          { value: false, probability: 0.2 },
        ],
      },
      {
        type: 'score',
        name: null,
        score: 2 / 3,
        confidence: 2 / 3,
        probabilities: [
          { value: 0, label: 'a bit', probability: 1 / 3 },
          { value: 1, label: 'much 1', probability: 2 / 3 },
        ],
      },
    ]);
    expect(decision.usage.input_tokens_details).toEqual({ cached_tokens: 12, cache_write_tokens: 0 });
  });

  it('throws typed errors', async () => {
    const client = await makeClient();
    const asked = client.decisions.create({ model: 'fake-judge', input: 'a', questions: [] });
    await expect(asked).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(asked).rejects.toMatchObject({ code: 'invalid_value', param: 'questions' });
  });
});
