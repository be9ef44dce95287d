// The messages of a conversation: text and tool calls only, and tolerant of what SDKs send back with an answer.
import { z } from '@hono/zod-openapi';
import { checkKeys, rejectWith } from './reject';
import { callId, checkToolResults, EarlierToolCallSchema, type ToolCall } from './tool-call';

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
const ECHOES = ['refusal', 'annotations', 'audio', 'function_call'];
/** `parsed` is what an SDK has read in the content. */
const KNOWN = ['role', 'content', 'name', 'tool_calls', 'tool_call_id', 'parsed', ...ECHOES];
const ROLES = ['system', 'developer', 'user', 'assistant', 'tool'] as const;

const ChatMessageSchema = z
  .looseObject({
    role: z.string().openapi({ enum: [...ROLES] }),
    content: z
      .union([z.string(), z.array(TextPartSchema).min(1)])
      .nullish()
      .openapi({
        description:
          'Text, or text parts, which are joined with a line break. Only assistant messages may lack it.',
      }),
    name: z.string().max(64).nullish().openapi({ description: 'Accepted without effect.' }),
    tool_calls: z.array(EarlierToolCallSchema).max(128).nullish().openapi({
      description: 'What an assistant message called. A `tool` message for each call must follow.',
    }),
    tool_call_id: callId.nullish().openapi({ description: 'The call that a `tool` message answers.' }),
  })
  .superRefine((message, context) => {
    const { role, content, tool_calls: calls, tool_call_id: answered } = message;
    if (role === 'function') {
      rejectWith('unsupported_value', ['role'], "must be 'tool' instead of 'function'", context);
    } else if (!ROLES.some((known) => known === role)) {
      const text = `must be one of ${ROLES.map((known) => `'${known}'`).join(', ')}`;
      rejectWith('invalid_value', ['role'], text, context);
    }
    checkKeys(message, KNOWN, [], context);
    for (const echo of ECHOES) {
      if (!isEmpty(message[echo])) {
        rejectWith('unsupported_parameter', [echo], 'is not supported', context);
      }
    }
    if (content === undefined && isEmpty(calls)) {
      rejectWith('missing_required_parameter', ['content'], 'is missing', context);
    } else if (content === null && role !== 'assistant') {
      rejectWith('invalid_type', ['content'], 'expected string or array', context);
    }
    if (role !== 'assistant' && !isEmpty(calls)) {
      rejectWith('invalid_value', ['tool_calls'], "belongs to messages of the role 'assistant'", context);
    }
    if (role === 'tool' && isEmpty(answered)) {
      rejectWith('missing_required_parameter', ['tool_call_id'], 'is missing', context);
    } else if (role !== 'tool' && !isEmpty(answered)) {
      rejectWith('invalid_value', ['tool_call_id'], "belongs to messages of the role 'tool'", context);
    }
  })
  .openapi('ChatMessage', { additionalProperties: false });

export const ChatMessagesSchema = z.array(ChatMessageSchema).min(1).superRefine(checkToolResults);

export type ChatMessage = z.output<typeof ChatMessageSchema>;

/** A message as the backend takes it: role and one text, and what was called or is answered. */
export interface PlainMessage {
  role: string;
  content: string;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
}

export function toPlainMessage(message: ChatMessage): PlainMessage {
  const { role, content, tool_calls: calls, tool_call_id: answered } = message;
  const text =
    typeof content === 'string' ? content : (content ?? []).map((part) => part.text ?? '').join('\n');
  return {
    role,
    content: text,
    ...(isEmpty(calls) ? {} : { tool_calls: (calls ?? []).map(toPlainCall) }),
    ...(isEmpty(answered) ? {} : { tool_call_id: answered ?? '' }),
  };
}

function toPlainCall({ id, type, function: called }: z.output<typeof EarlierToolCallSchema>): ToolCall {
  return { id, type, function: { name: called.name, arguments: called.arguments } };
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
}
