// Our own SDK inside workerd, against the app: the client works in Workers, and the app answers as it expects.
import { describe, expect, it } from 'vitest';
import { Attune, AuthenticationError, NotFoundError } from '../../sdk/typescript/src';
import { call, makeKey, ORIGIN, runsOf } from '../support/harness';

/** A client whose requests go straight into the app. */
async function makeClient(apiKey?: string, loseAnswer: () => boolean = () => false) {
  return new Attune({
    apiKey: apiKey ?? (await makeKey()),
    baseUrl: ORIGIN,
    maxRetries: 1,
    fetch: async (url, init) => {
      const request = new Request(url, init);
      const { pathname, search } = new URL(url);
      const response = await call(pathname + search, {
        method: request.method,
        headers: Object.fromEntries(request.headers),
        ...(request.method === 'POST' ? { body: await request.text() } : {}),
      });
      if (loseAnswer()) throw new TypeError('the connection broke');
      return response;
    },
  });
}

const question = { model: 'fake', messages: [{ role: 'user' as const, content: 'Hello' }] };

describe('the SDK in a Worker', () => {
  it('reads whole answers and streams', async () => {
    const client = await makeClient();
    const { data, requestId } = await client.chat.completions.create(question).withResponse();
    expect(data.choices[0]?.message.content).toBe('Hello é world');
    expect(requestId).toMatch(/^req_/);
    let text = '';
    for await (const chunk of await client.chat.completions.create({ ...question, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? '';
    }
    expect(text).toBe('Hello é world');
  });

  it('leaves a stream before its end', async () => {
    const client = await makeClient();
    const seen: unknown[] = [];
    for await (const chunk of await client.chat.completions.create({ ...question, stream: true })) {
      seen.push(chunk);
      break;
    }
    expect(seen).toHaveLength(1);
  });

  it('compares, scores, ranks and decides', async () => {
    const { rewards, decisions } = await makeClient();
    const judged = { model: 'fake-judge', input: 'Which?' };
    expect((await rewards.compare({ ...judged, a: '2', b: '1' })).winner).toBe('a');
    expect((await rewards.score({ ...judged, responses: ['1'] })).data[0]?.score).toBeGreaterThan(0.5);
    expect((await rewards.rank({ ...judged, responses: ['1', '2'] })).best_index).toBe(1);
    const questions = [{ type: 'predicate' as const, instructions: 'Is it?' }];
    expect((await decisions.create({ ...judged, questions })).answers[0]?.type).toBe('predicate');
  });

  it('reranks', async () => {
    const client = await makeClient();
    const { results } = await client.rerank({ model: 'fake-judge', query: 'q', documents: ['1', '2'] });
    expect(results.map(({ index }) => index)).toEqual([1, 0]);
  });

  it('gets an answer that was lost on the way, and runs nothing twice', async () => {
    let numAnswers = 0;
    const client = await makeClient(undefined, () => (numAnswers += 1) === 1);
    const { data, response } = await client.chat.completions.create({ ...question, seed: 77 }).withResponse();
    expect([numAnswers, await runsOf(77)]).toEqual([2, 1]);
    expect(response.headers.get('idempotent-replayed')).toBe('true');
    expect(data.choices[0]?.message.content).toBe('Hello é world');
  });

  it('reads usage', async () => {
    const client = await makeClient();
    const page = await client.usage({ start_time: 0, end_time: 86_401, group_by: ['model', 'exit'] });
    expect(page).toMatchObject({ object: 'page', data: [{ results: [] }, { results: [] }], has_more: false });
  });

  it('throws its typed errors', async () => {
    const stranger = await makeClient('att_test_wrong');
    await expect(stranger.models.list()).rejects.toBeInstanceOf(AuthenticationError);
    const client = await makeClient();
    await expect(client.chat.completions.retrieve('chatcmpl-0')).rejects.toBeInstanceOf(NotFoundError);
  });
});
