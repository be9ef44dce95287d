// Streams an answer through the unmodified OpenAI client. Run: set -a; . .attune/dev.env; node scripts/node24.mjs tsx examples/openai-sdk.ts
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: `${process.env.ATTUNE_BASE_URL}/v1`,
  apiKey: process.env.ATTUNE_API_KEY,
});

const stream = await client.chat.completions.create({
  model: 'smollm2-135m-instruct',
  temperature: 0,
  max_tokens: 32,
  stream: true,
  messages: [{ role: 'user', content: 'What is the capital of France?' }],
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? '');
process.stdout.write('\n');
