// Token counts of operations that read and generate nothing, in the names of OpenAI's newer operations.
import { z } from '@hono/zod-openapi';

const count = z.int().min(0);

/** What the backend counts: the tokens of all prompts, and those of them that came from the cache. */
export const ReadUsageSchema = z.object({ input_tokens: count, cached_tokens: count });

export type ReadUsage = z.output<typeof ReadUsageSchema>;

export const RewardUsageSchema = z
  .object({
    input_tokens: count.openapi({ description: 'Tokens of all prompts: a pair is read once per order.' }),
    output_tokens: count,
    total_tokens: count,
    input_tokens_details: z.object({ cached_tokens: count }),
  })
  .openapi('RewardUsage');

export function toRewardUsage({
  input_tokens,
  cached_tokens,
}: ReadUsage): z.output<typeof RewardUsageSchema> {
  return {
    input_tokens,
    output_tokens: 0,
    total_tokens: input_tokens,
    input_tokens_details: { cached_tokens },
  };
}
