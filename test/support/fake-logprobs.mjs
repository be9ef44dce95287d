// How sure the models of the fake backend are of the three words that they say.

const PROBABILITIES = { unsure: [0.9, 0.1, 0.8], silent: [], speechless: null };
const SURE = [0.95, 0.9, 0.99];

/** As the backend gives it; null for a model that does not, although it was asked. */
export function logprobsOf(model, words) {
  const probabilities = Object.hasOwn(PROBABILITIES, model) ? PROBABILITIES[model] : SURE;
  if (probabilities === null) return null;
  const content = probabilities.map((probability, index) => ({
    token: words[index],
    logprob: Math.log(probability),
    bytes: [...Buffer.from(words[index])],
    top_logprobs: [],
  }));
  return { content, refusal: null };
}
