// What tokens cost, per model. These are settings: change them to what a deployment asks for.
import type { Amount } from './accounting';

export const CURRENCY = 'USD';

/** Millionths of the currency per million tokens. */
interface Price {
  input: number;
  output: number;
}

const PRICES: Record<string, Price> = {
  'smollm2-135m-instruct': { input: 10_000, output: 20_000 },
  'gram-smollm2-135m': { input: 10_000, output: 20_000 },
};

/** For models that are not listed: dear rather than free, so that a forgotten line never overruns a budget. */
const UNLISTED: Price = { input: 1_000_000, output: 4_000_000 };

export interface TokenUse {
  model: string;
  promptTokens: number;
  completionTokens: number;
  /** Those of the prompt that were found in the cache; absent where there is none. */
  cachedTokens?: number;
  /** What a reward model read beside it, to choose among its answers. */
  judged?: { model: string; promptTokens: number };
  /** What a larger model used after it, because it was unsure. */
  escalated?: { model: string; promptTokens: number; completionTokens: number };
}

/** Tokens and their price, rounded up to a whole millionth. */
export function amountOf({ judged, escalated, ...own }: TokenUse): Amount {
  const parts = [own, judged && { ...judged, completionTokens: 0 }, escalated].filter(
    (part) => part !== undefined,
  );
  const price = parts.reduce((sum, part) => sum + priceOfPart(part), 0);
  return {
    tokens: parts.reduce((sum, part) => sum + part.promptTokens + part.completionTokens, 0),
    micros: Math.ceil(price / 1e6),
  };
}

function priceOfPart({ model, promptTokens, completionTokens }: TokenUse): number {
  const { input, output } = priceOf(model);
  return promptTokens * input + completionTokens * output;
}

function priceOf(model: string): Price {
  return (Object.hasOwn(PRICES, model) ? PRICES[model] : undefined) ?? UNLISTED;
}
