// The story of the reward model that comes along: what its card says of pairs beyond doubt, through the whole product, and a verdict that no order can turn.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { root } from '../../scripts/lib/paths.mjs';
import { post } from './support/client';

const product = inject('product');

interface Pair {
  prompt: string;
  chosen: string;
  rejected: string;
}

const pairs = readFileSync(path.join(root, 'examples', 'obvious-pairs.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Pair);

async function compare(input: string, a: string, b: string) {
  const response = await post(product, '/v1/rewards/compare', { model: 'gram-smollm2-135m', input, a, b });
  expect(response.status).toBe(200);
  return response.json() as Promise<{ winner: string; probability_a: number; consistent: boolean }>;
}

describe('the reward model that comes along', () => {
  it('is right about at least 16 of 20 pairs beyond doubt, of which one is close to even, and its orders agree in most', async () => {
    expect(pairs).toHaveLength(20);
    const verdicts = await Promise.all(
      pairs.map(({ prompt, chosen, rejected }) => compare(prompt, chosen, rejected)),
    );
    expect(verdicts.filter(({ probability_a }) => probability_a > 0.5).length).toBeGreaterThanOrEqual(16);
    expect(verdicts.filter(({ consistent }) => consistent).length).toBeGreaterThanOrEqual(17);
  });

  it('says exactly the opposite when the answers are exchanged, and even of equal ones', async () => {
    for (const { prompt, chosen, rejected } of pairs.slice(0, 3)) {
      const there = await compare(prompt, chosen, rejected);
      const back = await compare(prompt, rejected, chosen);
      expect(there.probability_a + back.probability_a).toBe(1);
      expect(await compare(prompt, chosen, chosen)).toMatchObject({ winner: 'tie', probability_a: 0.5 });
    }
  });
});
