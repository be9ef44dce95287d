// `early_exit` of a chat request and of its answer: tokens that an inner layer guesses and the full model verifies.
import { z } from '@hono/zod-openapi';

export const EarlyExitRequestSchema = z
  .strictObject({
    mode: z.enum(['auto', 'off', 'lossless', 'gated']).nullish().openapi({
      default: 'auto',
      description:
        '`lossless` gives the very tokens of full depth, with fewer passes; `auto` is `lossless` where the model has an exit adapter and it pays; `gated` needs an operating point that the model declares.',
    }),
    max_risk: z.number().gt(0).lt(1).nullish().openapi({
      description: 'For `gated`: the largest share of tokens that may differ from full depth.',
    }),
  })
  .openapi('EarlyExitRequest');

export const EarlyExitSchema = z
  .object({
    mode: z.enum(['off', 'lossless', 'gated']),
    mean_exit_layer: z.number().min(0).openapi({
      description:
        'Mean over the tokens. A draft that was accepted left at the exit layer: the layers above ran once for it and its neighbours together.',
    }),
    layers_saved: z.int().min(0).openapi({ description: 'Passes of a layer that no token had of its own.' }),
    accepted_drafts: z.int().min(0).openapi({
      description: 'Tokens of the answer that an inner layer guessed.',
    }),
    min_confidence: z.number().min(0).max(1).openapi({
      description:
        'The least probability, over the tokens, that full depth gives the same one; 1 where every token was verified.',
    }),
  })
  .openapi('EarlyExit');

type EarlyExitRequest = z.output<typeof EarlyExitRequestSchema>;

export interface PlainEarlyExit {
  mode: 'auto' | 'off' | 'lossless' | 'gated';
  max_risk: number | null;
}

/** As the backend reads it: null where the caller did not name it. */
export function toPlainEarlyExit(asked: EarlyExitRequest | null | undefined): PlainEarlyExit | null {
  return asked ? { mode: asked.mode ?? 'auto', max_risk: asked.max_risk ?? null } : null;
}

interface Body {
  early_exit?: EarlyExitRequest | null | undefined;
}

/** `max_risk` says nothing to the other modes, so it is refused there. */
export function faultOfEarlyExit({ early_exit }: Body): string | undefined {
  if (typeof early_exit?.max_risk !== 'number' || early_exit.mode === 'gated') return undefined;
  return "needs 'early_exit.mode' to be 'gated'";
}
