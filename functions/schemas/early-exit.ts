// `early_exit` of requests and answers: tokens that an inner layer guesses and the full model verifies, and verdicts that an inner layer reads.
import { z } from '@hono/zod-openapi';

export const EarlyExitRequestSchema = z
  .strictObject({
    mode: z.enum(['auto', 'off', 'lossless', 'gated']).nullish().openapi({
      default: 'auto',
      description:
        'In chat `lossless` gives the very tokens of full depth, with fewer passes, and `auto` is `lossless` where the model has an exit adapter and it pays. `gated` leaves early within a stated risk and needs an operating point of the model: judges have some, and for them `auto` is full depth.',
    }),
    max_risk: z.number().gt(0).lt(1).nullish().openapi({
      description:
        'For `gated`: the largest share of tokens, or of verdicts, that may differ from full depth. One of the model’s own points; 0.01 when absent.',
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

export const RewardDepthSchema = z
  .object({
    mode: z.enum(['off', 'gated']),
    mean_exit_layer: z.number().min(0).openapi({ description: 'Mean over the prompts that were read.' }),
    layers_saved: z.int().min(0).openapi({ description: 'Layers that prompts did not go through.' }),
    early_forwards: z.int().min(0).openapi({ description: 'Prompts whose verdict an inner layer gave.' }),
    min_confidence: z.number().min(0).max(1).openapi({
      description:
        'The least probability, over these, that full depth gives the same verdict; 1 without any.',
    }),
  })
  .openapi('RewardDepth');

export type RewardDepth = z.output<typeof RewardDepthSchema>;

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
