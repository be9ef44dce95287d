// `escalate` of a chat request: a larger model is asked where the one that was named is unsure; and what its answer says of that.
import { z } from '@hono/zod-openapi';
import { rejectWith } from './reject';

export const EscalateSchema = z
  .strictObject({
    to: z.string().min(1).max(256).openapi({
      description: 'A model of another server, which is asked where `model` is unsure.',
      example: 'big-model',
    }),
    min_confidence: z.number().gt(0).max(1).openapi({
      description: '`to` is asked when the least probable token of the answer is less probable than this.',
    }),
    max_cost: z.int().min(0).nullish().openapi({
      description:
        'Millionths of the currency. Where asking `to` could cost more it is not asked; a small `max_completion_tokens` makes it cheaper.',
    }),
    bridge: z.boolean().nullish().openapi({
      description: 'True to let `to` answer also while `model` is away, loading or overloaded.',
    }),
  })
  .openapi('Escalate', { example: { to: 'big-model', min_confidence: 0.3, max_cost: 20_000 } });

export type Escalate = z.output<typeof EscalateSchema>;

/** In the answer, and in the last chunk of a streamed one. */
export const EscalationSchema = z
  .object({
    to: z.string(),
    confidence: z.number().min(0).max(1).openapi({
      description: "The least probability of a token in the first model's answer; 0 where it is not known.",
    }),
    outcome: z.enum(['confident', 'escalated', 'bridged', 'too_costly', 'failed']).openapi({
      description:
        '`escalated`: this is the answer of `to`. `bridged`: it is, because the first model was away or overloaded and has not begun. Else it is that of the first model, because it was `confident`, because `to` could have cost more than `max_cost`, or because it `failed`.',
    }),
    error: z.string().nullable().openapi({
      description:
        'The code of the error that `to` failed with, or the first model where `to` stood in for it.',
    }),
  })
  .openapi('Escalation');

interface Body {
  escalate?: Escalate | null | undefined;
  best_of?: number | null | undefined;
  n?: number | null | undefined;
  tools?: readonly unknown[] | null | undefined;
}

/** One answer, all of whose tokens have a probability. */
export function checkEscalate({ escalate, best_of, n, tools }: Body, context: z.RefinementCtx): void {
  if (!escalate) return;
  if (typeof best_of === 'number') {
    rejectWith('unsupported_value', ['best_of'], "is not supported with 'escalate'", context);
  }
  if ((n ?? 1) !== 1) rejectWith('invalid_value', ['n'], "must be 1 with 'escalate'", context);
  if ((tools ?? []).length > 0) {
    rejectWith('unsupported_value', ['tools'], "is not supported with 'escalate'", context);
  }
}
