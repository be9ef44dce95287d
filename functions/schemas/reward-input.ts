// What answers are judged for, a question or a conversation, and the answers themselves.
import { z } from '@hono/zod-openapi';
import { ChatMessagesSchema, toPlainMessage, type ChatMessage } from './chat-message';
import { rejectWith } from './reject';

/** A turn as the reward model reads it. */
export interface PlainTurn {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** The reward model has no form for calls and their results; `at` is where the messages are. */
export function refuseToolTurns(
  messages: readonly ChatMessage[],
  context: z.RefinementCtx,
  at: string[] = [],
): void {
  for (const [index, { role, tool_calls: calls }] of messages.entries()) {
    if (role !== 'tool' && (calls ?? []).length === 0) continue;
    const path = [...at, index, role === 'tool' ? 'role' : 'tool_calls'];
    rejectWith('unsupported_value', path, 'is not something that reward models can read', context);
  }
}

export const RewardInputSchema = z
  .union([
    z.string(),
    ChatMessagesSchema.superRefine((messages, context) => refuseToolTurns(messages, context)),
  ])
  .openapi('RewardInput', {
    description: 'The question, or the conversation whose next turn is judged.',
    example: 'What is the capital of France?',
  });

export function toPlainTurns(input: z.output<typeof RewardInputSchema>): PlainTurn[] {
  return typeof input === 'string' ? [{ role: 'user', content: input }] : input.map(toPlainTurn);
}

function toPlainTurn(message: ChatMessage): PlainTurn {
  const { role, content } = toPlainMessage(message);
  return { role: role === 'user' || role === 'assistant' ? role : 'system', content };
}

export const RewardResponseSchema = z
  .union([z.string(), z.strictObject({ id: z.string().min(1).max(128), content: z.string() })])
  .openapi('RewardResponse', { description: 'An answer, or one with an id of yours that comes back.' });

type RewardResponse = z.output<typeof RewardResponseSchema>;

export const contentOf = (response: RewardResponse): string =>
  typeof response === 'string' ? response : response.content;

export const idOf = (response: RewardResponse | undefined): string | null =>
  typeof response === 'object' ? response.id : null;
