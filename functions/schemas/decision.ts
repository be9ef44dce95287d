// What the backend answers about questions on one input.
import { z } from '@hono/zod-openapi';
import { ReadUsageSchema } from './reward-usage';

export const DecisionsAnswerSchema = z.object({
  answers: z.array(z.object({ probabilities: z.array(z.number().min(0).max(1)).min(2) })),
  truncated: z.boolean(),
  usage: ReadUsageSchema,
});

export type DecisionsAnswer = z.output<typeof DecisionsAnswerSchema>;
