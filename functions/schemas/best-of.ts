// Best-of-n on chat: several answers are made, and the one that a reward model likes best is given.
import { z } from '@hono/zod-openapi';
import type { ChatMessage } from './chat-message';
import { rejectWith } from './reject';
import { refuseToolTurns } from './reward-input';

export const MAX_BEST_OF = 16;

export const bestOfParameters = {
  best_of: z.int().min(2).max(MAX_BEST_OF).nullish().openapi({
    description:
      'How many answers to make; the one that `reward_model` likes best is given, and `usage` counts all of them and what the reward model reads.',
  }),
  reward_model: z.string().min(1).max(256).nullish().openapi({
    description: 'Chooses among `best_of` answers; a model with the capability `reward`.',
    example: 'gram-smollm2-135m',
  }),
};

/** Which answer was chosen, in the answer and in the last chunk of a streamed one. */
export const BestOfSchema = z
  .object({
    n: z.int().min(2).openapi({ description: 'How many answers were made.' }),
    index: z.int().min(0).openapi({ description: 'Which of them this is.' }),
    score: z.number().min(0).max(1).openapi({ description: 'Its mean probability to beat the others.' }),
    reward_model: z.string(),
  })
  .openapi('BestOf');

interface Body {
  best_of?: number | null | undefined;
  reward_model?: string | null | undefined;
  n?: number | null | undefined;
  tools?: readonly unknown[] | null | undefined;
  messages: readonly ChatMessage[];
}

export function checkBestOf(body: Body, context: z.RefinementCtx): void {
  const { best_of, reward_model, n, tools, messages } = body;
  const isAsked = typeof best_of === 'number';
  if (!isAsked) {
    if (typeof reward_model === 'string') {
      rejectWith('invalid_value', ['reward_model'], "needs 'best_of'", context);
    }
    return;
  }
  if (typeof reward_model !== 'string') {
    rejectWith('missing_required_parameter', ['reward_model'], "is missing: 'best_of' needs it", context);
  }
  if ((n ?? 1) !== 1) rejectWith('invalid_value', ['n'], "must be 1 with 'best_of'", context);
  if ((tools ?? []).length > 0) {
    rejectWith('unsupported_value', ['tools'], "is not supported with 'best_of'", context);
  }
  refuseToolTurns(messages, context, ['messages']);
}
