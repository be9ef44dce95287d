// The story of an account: loops of the OpenAI client side by side, and usage and limits that match what they were told, to the token.
import OpenAI from 'openai';
import { expect, inject, it } from 'vitest';
import { timeUntil } from './support/backend';
import { call, MODEL } from './support/client';

const product = inject('product');
const client = new OpenAI({ baseURL: `${product.baseUrl}/v1`, apiKey: product.apiKey });

interface Spent {
  num_model_requests: number;
  input_tokens: number;
  output_tokens: number;
}

/** What usage has of an end user, today. */
async function usageOf(user: string): Promise<Spent | undefined> {
  const query = new URLSearchParams({
    start_time: String(Math.floor(Date.now() / 1000) - 3600),
    group_by: 'user_id',
  });
  const response = await call(product, 'GET', `/v1/usage?${query}`);
  expect(response.status).toBe(200);
  const { data } = (await response.json()) as { data: { results: (Spent & { user_id: string })[] }[] };
  return data.flatMap(({ results }) => results).find(({ user_id }) => user_id === user);
}

it('usage matches what loops of the OpenAI client spent, to the token', async () => {
  const user = `loop-${Date.now()}`;
  const spent: Spent = { num_model_requests: 0, input_tokens: 0, output_tokens: 0 };
  const add = (usage: OpenAI.CompletionUsage | null | undefined) => {
    spent.num_model_requests += 1;
    spent.input_tokens += usage?.prompt_tokens ?? 0;
    spent.output_tokens += usage?.completion_tokens ?? 0;
  };
  const loop = async (name: number) => {
    for (let i = 0; i < 8; i++) {
      const request = {
        model: MODEL,
        messages: [{ role: 'user' as const, content: `Loop ${name} says ${i}.` }],
        max_tokens: 4 + i,
        user,
      };
      if (i % 2 === 0) {
        add((await client.chat.completions.create(request)).usage);
      } else {
        const stream_options = { include_usage: true };
        const chunks = await client.chat.completions.create({ ...request, stream: true, stream_options });
        for await (const { usage } of chunks) if (usage) add(usage);
      }
    }
  };
  await Promise.all([loop(1), loop(2), loop(3), loop(4)]);
  expect(spent.num_model_requests).toBe(32);
  // A lease is given back within half a second, and totals reach the database a second after that.
  await timeUntil(async () => (await usageOf(user))?.num_model_requests === 32, 10_000);
  expect(await usageOf(user)).toMatchObject(spent);
});

it('a client that loses patience again and again gets one answer, which ran once and is paid once', async () => {
  const user = `impatient-${Date.now()}`;
  const impatient = client.withOptions({ timeout: 300, maxRetries: 30 });
  const body = {
    model: MODEL,
    messages: [{ role: 'user' as const, content: 'Tell a long story about a river.' }],
    max_tokens: 400,
    user,
  };
  const startedAtMs = Date.now();
  const { usage } = await impatient.chat.completions.create(body, { headers: { 'idempotency-key': user } });
  expect(Date.now() - startedAtMs).toBeGreaterThan(300);
  await timeUntil(async () => (await usageOf(user)) !== undefined, 10_000);
  expect(await usageOf(user)).toMatchObject({
    num_model_requests: 1,
    input_tokens: usage?.prompt_tokens,
    output_tokens: usage?.completion_tokens,
  });
});
