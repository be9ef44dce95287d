// Structured output, prefix reuse and log probabilities on the real model, through the unmodified OpenAI client.
import OpenAI from 'openai';
import { describe, expect, inject, it } from 'vitest';
import { MODEL } from './support/client';

const product = inject('product');
const client = new OpenAI({
  baseURL: `${product.baseUrl}/v1`,
  apiKey: product.apiKey,
  maxRetries: 0,
  // The model answers, not the cache.
  defaultHeaders: { 'cache-control': 'no-store' },
});

const city = {
  name: 'city',
  strict: true,
  schema: {
    type: 'object',
    properties: { city: { type: 'string', maxLength: 20 }, inhabitants: { type: 'integer', minimum: 0 } },
    required: ['city', 'inhabitants'],
    additionalProperties: false,
  },
};

function ask(content: string, extra: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {}) {
  return client.chat.completions.create({
    model: MODEL,
    temperature: 0,
    messages: [{ role: 'user', content }],
    ...extra,
  });
}

describe('structured output', () => {
  it('fits the schema, greedy and sampled, in every choice', async () => {
    for (const sampling of [{}, { temperature: 1.5, seed: 3, n: 4 }]) {
      const { choices } = await ask('Describe Paris as JSON.', {
        ...sampling,
        max_completion_tokens: 80,
        response_format: { type: 'json_schema', json_schema: city },
      });
      for (const choice of choices) {
        expect(choice.finish_reason).toBe('stop');
        const value = JSON.parse(choice.message.content ?? '') as Record<string, unknown>;
        expect(Object.keys(value)).toEqual(['city', 'inhabitants']);
        expect(Number.isInteger(value.inhabitants)).toBe(true);
      }
    }
  });

  it('streams', async () => {
    const stream = await client.chat.completions.create({
      model: MODEL,
      temperature: 0,
      stream: true,
      messages: [{ role: 'user', content: 'Describe Paris as JSON.' }],
      response_format: { type: 'json_schema', json_schema: city },
    });
    let text = '';
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    expect(JSON.parse(text)).toHaveProperty('city');
  });

  it.each([
    ['an impossible type', { type: 'nonsense' }],
    ['a reference to nowhere', { $ref: '#/nowhere' }],
    [
      'a schema bomb',
      { enum: ['x'.repeat(1000)].concat(Array.from({ length: 100 }, (_, i) => 'y'.repeat(1000) + i)) },
    ],
  ])('refuses %s with a 400 that names the parameter', async (_, schema) => {
    const started = performance.now();
    const failure: unknown = await ask('x', {
      response_format: { type: 'json_schema', json_schema: { name: 'bad', schema } },
    }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(OpenAI.BadRequestError);
    expect(failure).toMatchObject({ code: 'invalid_value', param: 'response_format.json_schema.schema' });
    expect(performance.now() - started).toBeLessThan(2000);
  });
});

describe('a prompt that was computed before', () => {
  const long = `${'The quick brown fox jumps over the lazy dog. '.repeat(20)}What is the capital of France?`;
  const cached = async (extra: object) =>
    (await ask(long, { max_completion_tokens: 2, ...extra })).usage?.prompt_tokens_details?.cached_tokens ??
    -1;

  it('is reused for the same end user and for nobody else', async () => {
    expect(await cached({ user: 'reuse-1' })).toBe(0);
    expect(await cached({ user: 'reuse-1' })).toBeGreaterThan(150);
    expect(await cached({ user: 'reuse-2' })).toBe(0);
  });

  it('changes no answer', async () => {
    const texts = [];
    for (let run = 0; run < 2; run += 1) {
      const { choices } = await ask(long, { user: 'reuse-3', max_completion_tokens: 12 });
      texts.push(choices[0]?.message.content);
    }
    expect(texts[0]).toBe(texts[1]);
  });
});
