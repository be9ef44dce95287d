// How sure a model was of its answer, by its own word.
import type { ChatCompletion } from '../../schemas/chat-completion';

/**
 * The least probability, over the answer's tokens, that the model gave to a token; where tokens left early,
 * no more than that full depth gives the same ones. 0 for an answer without probabilities: who says nothing
 * is not sure.
 */
export function confidenceOf({ choices, early_exit: earlyExit }: ChatCompletion): number {
  const tokens = choices.flatMap(({ logprobs }) => logprobs?.content ?? []);
  if (tokens.length === 0) return 0;
  const least = tokens.reduce((found, { logprob }) => Math.min(found, logprob), 0);
  return Math.min(Math.exp(least), earlyExit?.min_confidence ?? 1);
}
