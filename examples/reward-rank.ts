// Puts answers in order, best first, through the TypeScript SDK. Run it like openai-sdk.ts.
import { Attune } from '../sdk/typescript/src';

const attune = new Attune();
const responses = [
  'Bananas are yellow and grow on trees.',
  'The capital of France is Paris.',
  'I will not answer that.',
  'France is a country in Europe.',
];

const { method, comparisons, results } = await attune.rewards.rank({
  model: 'gram-smollm2-135m',
  input: 'What is the capital of France?',
  responses,
});
console.log(`${comparisons} comparisons, ${method}`);
for (const { rank, score, index } of results) console.log(rank, score.toFixed(3), responses[index]);
