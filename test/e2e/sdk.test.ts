// The story of the TypeScript SDK: the real product, asked through our own client.
import { describe, expect, inject, it } from 'vitest';
import { Attune, AuthenticationError, BadRequestError, NotFoundError } from '../../sdk/typescript/src';
import { metric, timeUntil } from './support/backend';
import { MODEL } from './support/client';

const { baseUrl, apiKey, backendUrl } = inject('product');
const attune = new Attune({ baseUrl, apiKey });
const question = {
  model: MODEL,
  temperature: 0,
  max_completion_tokens: 24,
  messages: [{ role: 'user' as const, content: 'What is the capital of France?' }],
};

describe('the SDK', () => {
  it('chats, and streams the same answer', async () => {
    const { data, requestId } = await attune.chat.completions.create(question).withResponse();
    expect(data.choices[0]?.message.content).toContain('Paris');
    expect(requestId).toMatch(/^req_/);
    const stream = await attune.chat.completions.create({ ...question, stream: true });
    let text = '';
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    expect(text).toBe(data.choices[0]?.message.content);
    expect(stream.requestId).toMatch(/^req_/);
  });

  it('stores, reads and deletes an answer', async () => {
    const stored = await attune.chat.completions.create({ ...question, store: true });
    expect((await attune.chat.completions.retrieve(stored.id)).choices).toEqual(stored.choices);
    expect(await attune.chat.completions.delete(stored.id)).toMatchObject({ id: stored.id, deleted: true });
    await expect(attune.chat.completions.retrieve(stored.id)).rejects.toBeInstanceOf(NotFoundError);
  });

  it('lists and reads models, and counts tokens', async () => {
    expect((await attune.models.list()).data.map((model) => model.id)).toContain(MODEL);
    expect(await attune.models.retrieve(MODEL)).toMatchObject({ id: MODEL, object: 'model' });
    expect((await attune.tokenize({ model: MODEL, text: 'Hello' })).count).toBeGreaterThan(0);
  });

  it('reads what the key may still do', async () => {
    const { object, requests, concurrency } = await attune.limits();
    expect(object).toBe('limits');
    expect(requests.remaining).toBeGreaterThan(0);
    expect(requests.remaining).toBeLessThanOrEqual(requests.limit);
    expect(concurrency.running).toBeLessThanOrEqual(concurrency.limit);
  });

  it('throws its typed errors, without the key', async () => {
    const stranger = new Attune({ baseUrl, apiKey: 'att_test_wrong' });
    for (const call of [
      // Each begins when it is looked at: a refusal that nobody awaits yet would be an unhandled one.
      () => stranger.models.list(),
      () => stranger.chat.completions.create({ ...question, stream: true }),
    ]) {
      const refused = await call().then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(refused).toBeInstanceOf(AuthenticationError);
      expect(refused).toMatchObject({
        status: 401,
        code: 'invalid_api_key',
        requestId: expect.stringMatching(/^req_/),
      });
      expect(String(refused)).not.toContain('att_test_wrong');
    }
    const bad = attune.chat.completions.create({ ...question, temperature: 9 });
    await expect(bad).rejects.toBeInstanceOf(BadRequestError);
    await expect(bad).rejects.toMatchObject({ param: 'temperature', code: 'invalid_value' });
  });

  it.each(['by leaving the loop', 'by its signal'])('aborts %s, and the backend stops', async (how) => {
    const leaving = new AbortController();
    const stream = await attune.chat.completions.create(
      {
        ...question,
        max_completion_tokens: 4000,
        messages: [{ role: 'user', content: 'Write a very long story.' }],
        stream: true,
      },
      { signal: leaving.signal },
    );
    const read = async () => {
      for await (const chunk of stream) {
        if (!chunk.choices[0]?.delta.content) continue;
        expect(await metric(backendUrl, 'attune_requests_running')).toBe(1);
        if (how === 'by leaving the loop') break;
        leaving.abort(new Error('enough'));
      }
    };
    if (how === 'by leaving the loop') await read();
    else await expect(read()).rejects.toThrow('enough');
    await timeUntil(async () => (await metric(backendUrl, 'attune_requests_running')) === 0, 1_000);
  });
});
