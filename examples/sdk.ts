// Asks through the TypeScript SDK, whole and streamed. Run it like openai-sdk.ts.
import { Attune, RateLimitError } from '../sdk/typescript/src';

// From ATTUNE_BASE_URL and ATTUNE_API_KEY; or new Attune({ baseUrl, apiKey }).
const attune = new Attune();
const question = {
  model: 'smollm2-135m-instruct',
  temperature: 0,
  max_completion_tokens: 32,
  messages: [{ role: 'user' as const, content: 'What is the capital of France?' }],
};

try {
  const { data, requestId } = await attune.chat.completions.create(question).withResponse();
  console.log(requestId, data.choices[0]?.message.content);
} catch (error) {
  if (!(error instanceof RateLimitError)) throw error;
  console.log(`Too much at once, even after retries: ${error.message}`);
}

const stream = await attune.chat.completions.create({ ...question, stream: true });
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? '');
process.stdout.write('\n');
