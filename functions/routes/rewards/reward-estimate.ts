// The most that a reward request can read: every pair of answers in both orders, by every criterion.
import type { Context } from 'hono';
import type { AppEnv } from '../../context';
import type { Estimate } from '../../middleware/meter';
import { mostTokensOf, readContextLength } from '../prompt-bounds';

/** What a judge's template adds that no byte of the body stands for, and the anchor. */
const TEMPLATE_TOKENS = 512;
const MAX_CRITERIA = 16;
const MAX_TEXTS = 1000;
/** With as many others is an answer compared, at most, when it is scored against them; a pair counts for both. */
const MAX_NEIGHBOURS = 8;

/** Parsed, but not validated yet. */
export type RewardBody = Partial<Record<string, unknown>>;

/** An estimate whose `most` says how many tokens a body's prompts have, each at most `contextLength`. */
export const estimateReading = (most: (body: RewardBody, contextLength: number) => number): Estimate =>
  async function estimateReading(c: Context<AppEnv>) {
    const body = (await c.req.json<RewardBody | null>()) ?? {};
    const model = typeof body['model'] === 'string' ? body['model'] : '';
    const promptTokens = most(body, await readContextLength(c, model));
    return { model, promptTokens, completionTokens: 0 };
  };

export const listOf = (value: unknown): unknown[] =>
  Array.isArray(value) ? value.slice(0, MAX_TEXTS) : [value];

/** Each text is read once, beside something that does not change and has `fixedTokens`. */
export function mostReadOnce(fixedTokens: number, texts: unknown[], contextLength: number): number {
  const rest = fixedTokens + TEMPLATE_TOKENS;
  return texts.reduce<number>((sum, text) => sum + Math.min(rest + mostTokensOf(text), contextLength), 0);
}

/** The same in both orders of a pair. */
export function mostReadAlone(fixedTokens: number, texts: unknown[], contextLength: number): number {
  return 2 * mostReadOnce(fixedTokens, texts, contextLength);
}

/** `numPairs` pairs of these texts are read, in both orders and by every criterion. */
export function mostReadInPairs(body: RewardBody, texts: unknown[], numPairs: number, contextLength: number) {
  const rest = mostTokensOf([body['input'], body['criteria']]) + TEMPLATE_TOKENS;
  const longest = texts.reduce<number>((most, text) => Math.max(most, mostTokensOf(text)), 0);
  return 2 * numPairs * countCriteria(body) * Math.min(rest + 2 * longest, contextLength);
}

export function mostCompared(body: RewardBody, contextLength: number): number {
  return mostReadInPairs(body, [body['a'], body['b']], 1, contextLength);
}

export function mostScored(body: RewardBody, contextLength: number): number {
  const responses = listOf(body['responses']);
  const { reference, input, criteria } = body as Record<string, unknown>;
  const isAlone = responses.length === 1 || typeof reference === 'string';
  if (isAlone)
    return (
      countCriteria(body) *
      mostReadAlone(mostTokensOf([input, criteria, reference]), responses, contextLength)
    );
  const numPairs = (responses.length * Math.min(responses.length - 1, MAX_NEIGHBOURS)) / 2;
  return mostReadInPairs(body, responses, numPairs, contextLength);
}

export function mostRanked(body: RewardBody, contextLength: number): number {
  const responses = listOf(body['responses']);
  const rivals = Math.max(0, responses.length - 1);
  const all = body['method'] === 'scan' ? rivals : (responses.length * rivals) / 2;
  const budget = body['max_comparisons'];
  const numPairs = typeof budget === 'number' && budget >= 1 ? Math.min(Math.ceil(budget), all) : all;
  return mostReadInPairs(body, responses, numPairs, contextLength);
}

function countCriteria({ criteria }: { criteria?: unknown }): number {
  return Array.isArray(criteria) ? Math.max(1, Math.min(criteria.length, MAX_CRITERIA)) : 1;
}
