// Calls that a model makes: in its answers, in their chunks, and in the conversation that follows.
import { z } from '@hono/zod-openapi';
import { checkKeys, rejectWith } from './reject';
import { functionName } from './tool';

export const callId = z.string().min(1).max(128);

/** A call in an answer. */
export const ToolCallSchema = z
  .object({
    id: z.string(),
    type: z.literal('function'),
    function: z.object({
      name: z.string(),
      arguments: z.string().openapi({
        description:
          "JSON that fits the function's schema; only its beginning when `finish_reason` is `length`.",
        example: '{"city": "Paris"}',
      }),
    }),
  })
  .openapi('ToolCall');

export type ToolCall = z.output<typeof ToolCallSchema>;

/** A piece of a call in a stream; id, type and name come with the first one. */
export const ToolCallPieceSchema = z
  .object({
    index: z.int().min(0),
    id: z.string().optional(),
    type: z.literal('function').optional(),
    function: z.object({ name: z.string().optional(), arguments: z.string() }),
  })
  .openapi('ToolCallPiece');

/** A call of an earlier answer, as callers send it back; SDKs add what they have read in the arguments. */
export const EarlierToolCallSchema = z
  .looseObject({
    id: callId,
    type: z.literal('function'),
    function: z
      .looseObject({
        name: functionName,
        arguments: z.string().refine(isJsonObject, 'must be a JSON object as text'),
      })
      .openapi({ additionalProperties: false }),
  })
  .superRefine((call, context) => {
    checkKeys(call, ['id', 'type', 'function', 'index'], [], context);
    for (const key of Object.keys(call.function)) {
      if (['name', 'arguments', 'parsed_arguments'].includes(key)) continue;
      rejectWith('unknown_parameter', ['function', key], 'is not a known parameter', context);
    }
  })
  .openapi('EarlierToolCall', { additionalProperties: false });

function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

interface Turn {
  role: string;
  tool_calls?: { id: string }[] | null | undefined;
  tool_call_id?: string | null | undefined;
}

/** Every call is answered by one `tool` message before the conversation goes on, and nothing else is. */
export function checkToolResults(messages: readonly Turn[], context: z.RefinementCtx): void {
  let open = new Set<string>();
  const refuse = (path: (string | number)[], text: string) =>
    rejectWith('invalid_value', path, text, context);
  for (const [index, message] of messages.entries()) {
    if (message.role === 'tool') {
      if (!open.delete(message.tool_call_id ?? '')) {
        refuse([index, 'tool_call_id'], 'answers no call of the assistant message before it');
        return;
      }
      continue;
    }
    if (open.size > 0) {
      refuse([index, 'role'], "must be 'tool' until every call before it is answered");
      return;
    }
    const calls = message.tool_calls ?? [];
    open = new Set(calls.map(({ id }) => id));
    if (open.size < calls.length) refuse([index, 'tool_calls'], 'must have ids of their own');
  }
  if (open.size > 0) refuse([], 'must end with an answer to every call');
}
