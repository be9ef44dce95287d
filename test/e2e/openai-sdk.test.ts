// Conformance with the unmodified OpenAI client: only its base URL is set.
import OpenAI from 'openai';
import { describe, expect, inject, it } from 'vitest';
import { metric, timeUntil } from './support/backend';
import { MODEL } from './support/client';

const product = inject('product');
const client = new OpenAI({ baseURL: `${product.baseUrl}/v1`, apiKey: product.apiKey });
const question = {
  model: MODEL,
  temperature: 0,
  messages: [{ role: 'user' as const, content: 'What is the capital of France?' }],
};

describe('the OpenAI client', () => {
  it('chats', async () => {
    const { data, response, request_id } = await client.chat.completions
      .create({ ...question, max_completion_tokens: 24 })
      .withResponse();
    expect(data.choices[0]?.message.content).toContain('Paris');
    expect(request_id).toBe(response.headers.get('x-request-id'));
  });

  it('streams', async () => {
    const stream = await client.chat.completions.create({
      ...question,
      max_tokens: 24,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage ?? usage;
    }
    expect(text).toContain('Paris');
    expect(usage?.completion_tokens).toBeGreaterThan(0);
  });

  it('streams through its helper, which puts the whole answer together', async () => {
    const stream = client.chat.completions.stream({ ...question, max_tokens: 24 });
    const deltas: string[] = [];
    stream.on('content', (delta) => deltas.push(delta));
    const completion = await stream.finalChatCompletion();
    expect(completion.choices[0]?.message.content).toBe(deltas.join(''));
  });

  it('returns several choices with log probabilities', async () => {
    const { choices } = await client.chat.completions.create({
      ...question,
      n: 2,
      max_tokens: 3,
      logprobs: true,
      top_logprobs: 2,
    });
    expect(choices.map((choice) => choice.index)).toEqual([0, 1]);
    const tokens = choices[0]?.logprobs?.content ?? [];
    expect(tokens).toHaveLength(3);
    expect(tokens[0]?.top_logprobs).toHaveLength(2);
    expect(tokens[0]?.logprob).toBeLessThanOrEqual(0);
  });

  it('lists and reads models', async () => {
    const ids = (await client.models.list()).data.map((model) => model.id);
    expect(ids).toContain(MODEL);
    expect(await client.models.retrieve(MODEL)).toMatchObject({ id: MODEL, object: 'model' });
  });

  it('stores, reads and deletes an answer', async () => {
    const stored = await client.chat.completions.create({ ...question, max_tokens: 8, store: true });
    expect((await client.chat.completions.retrieve(stored.id)).choices).toEqual(stored.choices);
    expect(await client.chat.completions.delete(stored.id)).toMatchObject({ id: stored.id, deleted: true });
  });

  it('throws its typed errors', async () => {
    const stranger = new OpenAI({ baseURL: `${product.baseUrl}/v1`, apiKey: 'att_test_wrong' });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
    await expect(client.models.retrieve('gpt-0')).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const bad = client.chat.completions.create({ ...question, temperature: 9 });
    await expect(bad).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(bad).rejects.toMatchObject({
      status: 400,
      param: 'temperature',
      type: 'invalid_request_error',
      requestID: expect.stringMatching(/^req_/),
    });
  });

  it('aborts, and the backend stops', async () => {
    const stream = await client.chat.completions.create({
      ...question,
      max_tokens: 4000,
      messages: [{ role: 'user', content: 'Write a very long story.' }],
      stream: true,
    });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    stream.controller.abort();
    await timeUntil(async () => (await metric(product.backendUrl, 'attune_requests_running')) === 0, 1_000);
  });
});
