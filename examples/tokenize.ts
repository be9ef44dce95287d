// Counts the tokens of a text with plain fetch, to see whether it fits. Run it like openai-sdk.ts.
const text = 'The capital of France is Paris.';

const response = await fetch(`${process.env.ATTUNE_BASE_URL}/v1/tokenize`, {
  method: 'POST',
  headers: { authorization: `Bearer ${process.env.ATTUNE_API_KEY}`, 'content-type': 'application/json' },
  body: JSON.stringify({ model: 'smollm2-135m-instruct', text }),
});
if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
const { count, context_length: contextLength } = (await response.json()) as {
  count: number;
  context_length: number;
};
console.log(`"${text}" is ${count} of ${contextLength} tokens`);
export {};
