// One message of a conversation: text only, and tolerant of what SDKs send back with an answer.
import { z } from '@hono/zod-openapi';
import { checkKeys, rejectWith } from './reject';

// A part is checked by its type first: "images are not supported" helps more than "no such form".
const TextPartSchema = z
  .looseObject({
    type: z.string().openapi({ enum: ['text'] }),
    text: z.string().optional(),
  })
  .superRefine((part, context) => {
    if (part.type !== 'text') {
      const message = "only parts of type 'text' are supported";
      rejectWith('unsupported_value', ['type'], message, context);
      return;
    }
    checkKeys(part, ['type', 'text'], [], context);
    if (part.text === undefined) {
      rejectWith('missing_required_parameter', ['text'], 'is missing', context);
    }
  })
  .openapi('TextPart', { additionalProperties: false, required: ['type', 'text'] });

/** What an SDK echoes from an answer; each must be empty, since it would change the prompt otherwise. */
const ECHOES = ['refusal', 'annotations', 'audio', 'tool_calls', 'function_call'];
const KNOWN = ['role', 'content', 'name', ...ECHOES];
const TOOL_ROLES = new Set(['tool', 'function']);
const ROLES = ['system', 'developer', 'user', 'assistant'] as const;

export const ChatMessageSchema = z
  .looseObject({
    role: z.string().openapi({ enum: [...ROLES] }),
    content: z.union([z.string(), z.array(TextPartSchema).min(1)]).openapi({
      description: 'Text, or text parts, which are joined with a line break.',
    }),
    name: z.string().max(64).nullish().openapi({ description: 'Accepted without effect.' }),
  })
  .superRefine((message, context) => {
    if (TOOL_ROLES.has(message.role)) {
      const text = "messages of the roles 'tool' and 'function' are not supported";
      rejectWith('unsupported_value', ['role'], text, context);
    } else if (!ROLES.some((role) => role === message.role)) {
      const text = `must be one of ${ROLES.map((role) => `'${role}'`).join(', ')}`;
      rejectWith('invalid_value', ['role'], text, context);
    }
    checkKeys(message, KNOWN, [], context);
    for (const echo of ECHOES) {
      if (!isEmpty(message[echo])) {
        rejectWith('unsupported_parameter', [echo], 'is not supported', context);
      }
    }
  })
  .openapi('ChatMessage', { additionalProperties: false });

export type ChatMessage = z.output<typeof ChatMessageSchema>;

/** A message as the backend takes it: role and one text. */
export function toPlainMessage(message: ChatMessage): { role: string; content: string } {
  const { role, content } = message;
  if (typeof content === 'string') return { role, content };
  return { role, content: content.map((part) => part.text ?? '').join('\n') };
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
}
