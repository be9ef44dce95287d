// How sure a model was of its answer: by hand, by a recording of the real backend, and for what nobody can know.
import { describe, expect, it } from 'vitest';
import { ChatCompletionSchema, type ChatCompletion } from '../../../../functions/schemas/chat-completion';
import { confidenceOf } from '../../../../functions/services/exit-ladder';
import recording from '../../../contract/chat-logprobs.json';

function answer(probabilities: number[] | null, minConfidence?: number): ChatCompletion {
  const content = (probabilities ?? []).map((probability) => {
    return { token: 'x', logprob: Math.log(probability), bytes: null, top_logprobs: [] };
  });
  const message = { role: 'assistant' as const, content: 'x', refusal: null };
  const logprobs = probabilities === null ? null : { content };
  return {
    id: 'chatcmpl-1',
    object: 'chat.completion',
    created: 0,
    model: 'm',
    system_fingerprint: null,
    choices: [{ index: 0, message, logprobs, finish_reason: 'stop' }],
    usage: {
      prompt_tokens: 1,
      completion_tokens: 1,
      total_tokens: 2,
      prompt_tokens_details: { cached_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 0 },
    },
    ...(minConfidence === undefined
      ? {}
      : {
          early_exit: {
            mode: 'gated' as const,
            mean_exit_layer: 1,
            layers_saved: 1,
            accepted_drafts: 0,
            min_confidence: minConfidence,
          },
        }),
  };
}

describe('confidenceOf', () => {
  it.each<[string, number[] | null, number | undefined, number]>([
    ['is the least probability of a token', [0.9, 0.25, 0.8], undefined, 0.25],
    ['is no more than that of the exits', [0.9, 0.8], 0.5, 0.5],
    ['is not raised by exits that were verified', [0.9, 0.25], 1, 0.25],
    ['is at most 1, whatever the rounding', [1.0000001], undefined, 1],
    ['is 0 where there is no token', [], undefined, 0],
    ['is 0 where there is no probability', null, undefined, 0],
    ['is 0 for a token that could not be', [0], undefined, 0],
  ])('%s', (_, probabilities, minConfidence, expected) => {
    expect(confidenceOf(answer(probabilities, minConfidence))).toBeCloseTo(expected, 12);
  });

  it('takes a token of many thousands', () => {
    const many = Array.from({ length: 200_000 }, (_, index) => (index === 99_999 ? 0.5 : 0.9));
    expect(confidenceOf(answer(many))).toBeCloseTo(0.5, 12);
  });

  it('reads what the real backend says', () => {
    const completion = ChatCompletionSchema.parse(recording.body);
    const logprobs = completion.choices.flatMap((choice) => choice.logprobs?.content ?? []);
    expect(logprobs.length).toBeGreaterThan(1);
    const [least = 0] = logprobs.map(({ logprob }) => logprob).toSorted((a, b) => a - b);
    expect(confidenceOf(completion)).toBe(Math.exp(least));
  });
});
