// Gets an answer that fits a JSON schema. Run: set -a; . .attune/dev.env; node scripts/node24.mjs tsx examples/structured.ts
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: `${process.env.ATTUNE_BASE_URL}/v1`,
  apiKey: process.env.ATTUNE_API_KEY,
});

const schema = {
  type: 'object',
  properties: { country: { const: 'France' }, capital: { enum: ['Berlin', 'Madrid', 'Paris', 'Rome'] } },
  required: ['country', 'capital'],
  additionalProperties: false,
};
const { choices } = await client.chat.completions.create({
  model: 'smollm2-135m-instruct',
  temperature: 0,
  messages: [{ role: 'user', content: 'What is the capital of France? Answer in JSON.' }],
  response_format: { type: 'json_schema', json_schema: { name: 'capital', schema } },
});
console.log(choices[0]?.message.content);
