// Stories of a backend that dies: nobody is left waiting, nothing ends silently, and service comes back by itself.
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MortalBackend } from './support/backend';
import { MODEL, ask, errorOf, events, post, readStream } from './support/client';
import { type Product, startProduct } from './support/product';

const CHAT = '/v1/chat/completions';
let backend: MortalBackend;
let product: Product;

beforeAll(async () => {
  backend = await MortalBackend.start();
  product = await startProduct({ backend });
});

afterAll(async () => {
  await product?.stop();
  await backend?.stop();
});

describe('a backend', () => {
  it('that is remote is used without starting one here', async () => {
    expect(product.output()).not.toContain('Virtual environment');
    const { text } = await readStream(
      await post(product, CHAT, ask('What is the capital of France?', { max_tokens: 16, stream: true })),
    );
    expect(text).toContain('Paris');
  });

  it('that dies in mid-stream ends the stream with an error event', async () => {
    const response = await post(
      product,
      CHAT,
      ask('Write a very long story about a dragon.', { max_tokens: 4000, stream: true }),
    );
    const seen: string[] = [];
    for await (const data of events(response)) {
      seen.push(data);
      if (seen.length === 5) await backend.kill();
    }
    expect(seen).not.toContain('[DONE]');
    const last = JSON.parse(seen.at(-1) ?? '{}');
    expect(last.error).toMatchObject({ code: 'upstream_stream_interrupted', type: 'server_error' });
    expect(last.error.request_id).toBe(response.headers.get('x-request-id'));
  });

  it('that is down is a 503 that says when to try again', async () => {
    const response = await post(product, CHAT, ask('hi'));
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(response.headers.get('x-should-retry')).toBe('true');
    expect(await errorOf(response)).toMatchObject({ status: 503, code: 'backend_unavailable' });
    expect((await fetch(`${product.baseUrl}/ready`)).status).toBe(503);
    expect((await fetch(`${product.baseUrl}/health`)).status).toBe(200);
  });

  it("that comes back serves the OpenAI client's own retry", async () => {
    const client = new OpenAI({ baseURL: `${product.baseUrl}/v1`, apiKey: product.apiKey, maxRetries: 20 });
    const waiting = client.chat.completions.create({
      model: MODEL,
      temperature: 0,
      max_tokens: 16,
      messages: [{ role: 'user', content: 'What is the capital of France?' }],
    });
    await backend.start();
    expect((await waiting).choices[0]?.message.content).toContain('Paris');
    expect((await fetch(`${product.baseUrl}/ready`)).status).toBe(200);
  });

  it('that dies under load ends every stream with an error and every other call with a 5xx', async () => {
    const story = (index: number, more: Record<string, unknown>) =>
      post(product, CHAT, ask(`Write very long story number ${index}.`, { max_tokens: 4000, ...more }));
    const streams = await Promise.all(
      Array.from({ length: 8 }, (_, index) => story(index, { stream: true, store: index % 2 === 0 })),
    );
    const wholes = Array.from({ length: 4 }, (_, index) => story(index, {}));
    // Every stream has spoken, so none of them fails only because it never began.
    const open = streams.map((response) => ({ response, events: events(response), seen: [] as string[] }));
    await Promise.all(
      open.map(async ({ events: source, seen }) => {
        while (seen.length < 3) seen.push(String((await source.next()).value));
      }),
    );
    await backend.kill();
    const killedAt = performance.now();
    for (const { response, events: source, seen } of open) {
      for await (const data of source) seen.push(data);
      expect(seen).not.toContain('[DONE]');
      expect(seen.filter((data) => data.startsWith('{"error"'))).toHaveLength(1);
      const { error } = JSON.parse(seen.at(-1) ?? '{}');
      expect(error).toMatchObject({ code: 'upstream_stream_interrupted', type: 'server_error' });
      expect(error.request_id).toBe(response.headers.get('x-request-id'));
    }
    for (const response of await Promise.all(wholes)) {
      const error = await errorOf(response);
      expect([502, 503]).toContain(error.status);
      expect(['backend_unavailable', 'upstream_invalid_response']).toContain(error.code);
      expect(response.headers.get('x-should-retry')).toBe('true');
      expect(error.request_id).toBe(response.headers.get('x-request-id'));
    }
    expect(performance.now() - killedAt).toBeLessThan(5_000);

    await backend.start();
    const again = await readStream(
      await post(product, CHAT, ask('What is the capital of France?', { max_tokens: 16, stream: true })),
    );
    expect([again.isDone, again.text]).toEqual([true, expect.stringContaining('Paris')]);
  });
});
