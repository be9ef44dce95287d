// The parameters that comparing, scoring and ranking have in common.
import { z } from '@hono/zod-openapi';
import { MetadataSchema } from './chat-completion';
import { CriteriaSchema } from './reward-criteria';
import { EarlyExitRequestSchema, faultOfEarlyExit } from './early-exit';
import { RewardInputSchema } from './reward-input';
import { rejectWith } from './reject';

const INCLUDABLE = ['probabilities', 'orders', 'tokens', 'rationale'] as const;

export type Includable = (typeof INCLUDABLE)[number];

/** Most bytes of a body: 64 long answers and a long conversation. */
export const MAX_REWARD_BODY_BYTES = 8 * 1024 * 1024;

export const rewardModel = z.string().min(1).max(256).openapi({ example: 'gram-smollm2-135m' });

export const truncation = z.enum(['auto', 'disabled']).nullish().openapi({
  default: 'auto',
  description: 'What happens to a text that is too long: `auto` cuts it and says so, `disabled` is an error.',
});

export const rewardParameters = {
  model: rewardModel,
  input: RewardInputSchema,
  criteria: CriteriaSchema.nullish().openapi({
    description: 'What to judge by: a text, or criteria that are judged one by one and weighted.',
  }),
  average: z.enum(['probability', 'logit']).nullish().openapi({
    default: 'probability',
    description: 'What is averaged over the two orders of a pair and over criteria.',
  }),
  truncation,
  include: z.array(z.enum(INCLUDABLE)).max(INCLUDABLE.length).nullish(),
  early_exit: EarlyExitRequestSchema.nullish(),
  votes: z.int().min(1).nullish().openapi({ description: 'Only 1: votes are taken among rationales.' }),
  user: z
    .string()
    .max(128)
    .nullish()
    .openapi({ description: 'Your end user: prompts are cached within one.' }),
  metadata: MetadataSchema.nullish().openapi({ description: 'Comes back with the answer.' }),
};

interface Asked {
  include?: Includable[] | null | undefined;
  votes?: number | null | undefined;
  early_exit?: Parameters<typeof faultOfEarlyExit>[0]['early_exit'];
}

/** Refuses what the model or the operation cannot give; `has` is what the operation can. */
export function checkAsked(
  { include, votes, early_exit }: Asked,
  has: readonly Includable[],
  context: z.RefinementCtx,
): void {
  const noRationale = 'the model cannot write rationales';
  if (typeof votes === 'number' && votes > 1) {
    rejectWith('unsupported_value', ['votes'], `must be 1: ${noRationale}, and votes need them`, context);
  }
  const risk = faultOfEarlyExit({ early_exit });
  if (risk !== undefined) rejectWith('invalid_value', ['early_exit', 'max_risk'], risk, context);
  for (const [index, name] of (include ?? []).entries()) {
    if (has.includes(name)) continue;
    const message = name === 'rationale' ? noRationale : `'${name}' is not part of this answer`;
    rejectWith('unsupported_value', ['include', index], message, context);
  }
}
