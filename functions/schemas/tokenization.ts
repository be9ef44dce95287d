// The body and the answer of POST /v1/tokenize.
import { z } from '@hono/zod-openapi';
import { ChatMessagesSchema } from './chat-message';

export const CreateTokenizationSchema = z
  .strictObject({
    model: z.string().min(1).max(256),
    text: z.string().nullish(),
    messages: ChatMessagesSchema.nullish(),
    user: z.string().max(128).nullish().openapi({ description: 'Your end user, for the usage.' }),
  })
  .superRefine((body, context) => {
    const given = [body.text, body.messages].filter((value) => value !== undefined && value !== null);
    if (given.length === 2) {
      const message = "must not be given together with 'text'";
      context.addIssue({ code: 'custom', path: ['messages'], message });
    }
    if (given.length === 0) {
      context.addIssue({
        code: 'custom',
        path: ['text'],
        message: "is missing: give 'text' or 'messages'",
        params: { code: 'missing_required_parameter' },
      });
    }
  })
  .openapi('CreateTokenizationRequest', {
    description: 'Either `text` or `messages`; messages include the template and the generation prompt.',
    example: { model: 'smollm2-135m-instruct', text: 'The capital of France is Paris.' },
  });

/** What the backend answers. */
export const TokenCountSchema = z.object({
  model: z.string(),
  ids: z.array(z.int().min(0)),
  count: z.int().min(0),
  context_length: z.int().min(1),
});

export type TokenCount = z.output<typeof TokenCountSchema>;

export const TokenizationSchema = TokenCountSchema.extend({ object: z.literal('tokenization') }).openapi(
  'Tokenization',
);
