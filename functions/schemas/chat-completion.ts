// A chat answer, whole or in chunks, in OpenAI's shape.
import { z } from '@hono/zod-openapi';
import { BestOfSchema } from './best-of';
import { EarlyExitSchema } from './early-exit';
import { EscalationSchema } from './escalate';
import { ToolCallPieceSchema, ToolCallSchema } from './tool-call';
import { UsageSchema } from './usage';

const tokenLogprob = {
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int().min(0).max(255)).nullable(),
};

const LogprobsSchema = z
  .object({
    content: z.array(z.object({ ...tokenLogprob, top_logprobs: z.array(z.object(tokenLogprob)) })),
    refusal: z.null().optional(),
  })
  .openapi('Logprobs');

const finishReason = z.enum(['stop', 'length', 'tool_calls']);

export const MetadataSchema = z
  .record(z.string().max(64), z.string().max(512))
  .refine((pairs) => Object.keys(pairs).length <= 16, 'must have at most 16 pairs')
  .openapi('Metadata', {
    description: 'Up to 16 pairs; keys up to 64 characters, values up to 512.',
    example: { topic: 'geography' },
  });

const shared = {
  id: z.string(),
  created: z.int().min(0),
  model: z.string(),
  system_fingerprint: z.string().nullable(),
};

export const ChatCompletionSchema = z
  .object({
    ...shared,
    object: z.literal('chat.completion'),
    choices: z.array(
      z.object({
        index: z.int().min(0),
        message: z.object({
          role: z.literal('assistant'),
          content: z.string().nullable(),
          refusal: z.null(),
          tool_calls: z.array(ToolCallSchema).optional(),
        }),
        logprobs: LogprobsSchema.nullable(),
        finish_reason: finishReason,
      }),
    ),
    usage: UsageSchema,
    early_exit: EarlyExitSchema.optional(),
    best_of: BestOfSchema.optional(),
    escalation: EscalationSchema.optional(),
    metadata: MetadataSchema.optional(),
  })
  .openapi('ChatCompletion');

export type ChatCompletion = z.output<typeof ChatCompletionSchema>;

export const ChatCompletionChunkSchema = z
  .object({
    ...shared,
    system_fingerprint: z.string().nullish(),
    object: z.literal('chat.completion.chunk'),
    choices: z.array(
      z.object({
        index: z.int().min(0),
        delta: z.object({
          role: z.literal('assistant').optional(),
          content: z.string().nullish(),
          refusal: z.null().optional(),
          tool_calls: z.array(ToolCallPieceSchema).optional(),
        }),
        logprobs: LogprobsSchema.nullish(),
        finish_reason: finishReason.nullish(),
      }),
    ),
    usage: UsageSchema.nullish(),
    early_exit: EarlyExitSchema.optional(),
    best_of: BestOfSchema.optional(),
    escalation: EscalationSchema.optional(),
  })
  .openapi('ChatCompletionChunk');

export type ChatCompletionChunk = z.output<typeof ChatCompletionChunkSchema>;

export const ChatCompletionIdSchema = z.object({
  id: z.string().openapi({
    param: { name: 'id', in: 'path' },
    description: 'The id of an answer that was made with `store: true`.',
    example: 'chatcmpl-01KAV5W1Q2M3N4P5R6S7T8V9WX',
  }),
});
