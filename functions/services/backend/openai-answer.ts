// What a server with OpenAI's protocol answers: read with patience for what servers add or leave out, then held to our own schemas.
import { z } from 'zod';
import {
  type ChatCompletion,
  type ChatCompletionChunk,
  ChatCompletionChunkSchema,
  ChatCompletionSchema,
} from '../../schemas/chat-completion';
import type { ChatCall } from './interface';
import { invalidResponse } from './upstream-error';

const count = z.int().min(0);
const text = z.string().nullish();

const UsageSchema = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count.nullish() }).nullish(),
  completion_tokens_details: z.object({ reasoning_tokens: count.nullish() }).nullish(),
});

type Usage = z.output<typeof UsageSchema>;

const LogprobsSchema = z.object({ content: z.array(z.unknown()).nullish() }).nullish();

export const OpenAiCompletionSchema = z.object({
  system_fingerprint: text,
  choices: z.array(
    z.object({
      index: count,
      message: z.object({ content: text, refusal: text, tool_calls: z.array(z.unknown()).nullish() }),
      logprobs: LogprobsSchema,
      finish_reason: text,
    }),
  ),
  usage: UsageSchema,
});

export const OpenAiChunkSchema = z.object({
  system_fingerprint: text,
  choices: z.array(
    z.object({
      index: count,
      delta: z.object({
        role: text,
        content: text,
        refusal: text,
        tool_calls: z
          .array(
            z.object({
              index: count,
              id: text,
              function: z.object({ name: text, arguments: text }).nullish(),
            }),
          )
          .nullish(),
      }),
      logprobs: LogprobsSchema,
      finish_reason: text,
    }),
  ),
  usage: UsageSchema.nullish(),
});

type OpenAiChunk = z.output<typeof OpenAiChunkSchema>;

/** The answer under our id and the model's name as its caller knows it. */
export function toCompletion(
  answer: z.output<typeof OpenAiCompletionSchema>,
  call: ChatCall,
): ChatCompletion {
  if (answer.choices.length !== call.n) throw invalidResponse(`not ${call.n} choices`);
  const choices = answer.choices.map(({ index, message, logprobs, finish_reason: reason }) => {
    const calls = message.tool_calls ?? [];
    return {
      index,
      message: {
        role: 'assistant',
        // A refusal is what the model says.
        content: message.content ?? message.refusal ?? null,
        refusal: null,
        ...(calls.length > 0 ? { tool_calls: calls } : {}),
      },
      logprobs: toLogprobs(logprobs),
      finish_reason: toReason(reason ?? 'stop'),
    };
  });
  return hold(ChatCompletionSchema, {
    ...nameOf(call, 'chat.completion'),
    system_fingerprint: answer.system_fingerprint ?? null,
    choices,
    usage: toUsage(answer.usage),
  });
}

/** A piece of the answer; undefined for one that holds nothing but usage. */
export function toChunk(chunk: OpenAiChunk, call: ChatCall): ChatCompletionChunk | undefined {
  if (chunk.choices.length === 0) return undefined;
  const choices = chunk.choices.map(({ index, delta, logprobs, finish_reason: reason }) => ({
    index,
    delta: toDelta(delta),
    logprobs: toLogprobs(logprobs),
    finish_reason: typeof reason === 'string' ? toReason(reason) : null,
  }));
  return hold(ChatCompletionChunkSchema, {
    ...nameOf(call, 'chat.completion.chunk'),
    system_fingerprint: chunk.system_fingerprint ?? null,
    choices,
    usage: null,
  });
}

/** The last chunk of a stream. */
export function toUsageChunk(usage: Usage, call: ChatCall): ChatCompletionChunk {
  const shared = { ...nameOf(call, 'chat.completion.chunk'), system_fingerprint: null };
  return hold(ChatCompletionChunkSchema, { ...shared, choices: [], usage: toUsage(usage) });
}

function nameOf({ id, created, model }: ChatCall, object: string) {
  return { id, object, created, model };
}

function toDelta({ role, content, refusal, tool_calls: calls }: OpenAiChunk['choices'][number]['delta']) {
  const said = content ?? refusal;
  return {
    ...(role === 'assistant' ? { role } : {}),
    ...(typeof said === 'string' ? { content: said } : {}),
    ...((calls ?? []).length > 0
      ? {
          tool_calls: (calls ?? []).map(({ index, id, function: called }) => ({
            index,
            // The first piece names the call; servers differ in what they repeat with the others.
            ...(typeof id === 'string' && id !== '' ? { id, type: 'function' } : {}),
            function: {
              ...(typeof called?.name === 'string' && called.name !== '' ? { name: called.name } : {}),
              arguments: called?.arguments ?? '',
            },
          })),
        }
      : {}),
  };
}

/** Whatever else ends an answer, such as a filter, ends it by itself. */
function toReason(reason: string): 'stop' | 'length' | 'tool_calls' {
  return reason === 'length' || reason === 'tool_calls' ? reason : 'stop';
}

function toLogprobs(logprobs: z.output<typeof LogprobsSchema>) {
  return logprobs?.content ? { content: logprobs.content, refusal: null } : null;
}

function toUsage(usage: Usage): ChatCompletion['usage'] {
  const { prompt_tokens: prompt, completion_tokens: completion } = usage;
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: Math.min(cached, prompt) },
    completion_tokens_details: { reasoning_tokens: usage.completion_tokens_details?.reasoning_tokens ?? 0 },
  };
}

function hold<T>(schema: z.ZodType<T>, value: unknown): T {
  const held = schema.safeParse(value);
  if (!held.success) throw invalidResponse(held.error);
  return held.data;
}
