// Token counts of a chat answer, in OpenAI's names.
import { z } from '@hono/zod-openapi';

const count = z.int().min(0);

export const UsageSchema = z
  .object({
    prompt_tokens: count,
    completion_tokens: count,
    total_tokens: count,
    prompt_tokens_details: z.object({ cached_tokens: count }),
    completion_tokens_details: z.object({ reasoning_tokens: count }),
  })
  .openapi('Usage');
