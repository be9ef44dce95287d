// Recordings of real runs of the backend: everything in them is something that the edge understands.
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { isErrorCode } from '../../functions/errors';
import { ChatCompletionChunkSchema, ChatCompletionSchema } from '../../functions/schemas/chat-completion';
import { DecisionsAnswerSchema } from '../../functions/schemas/decision';
import { ModelInfoSchema } from '../../functions/schemas/model';
import { ComparisonAnswerSchema } from '../../functions/schemas/reward-comparison';
import { RankingAnswerSchema } from '../../functions/schemas/reward-ranking';
import { ScoresAnswerSchema } from '../../functions/schemas/reward-scores';
import { TokenCountSchema } from '../../functions/schemas/tokenization';
import { readErrorResponse } from '../../functions/services/backend/upstream-error';
import { ChatCompletionAssembler } from '../../functions/services/chat-completions';

const RecordingSchema = z.object({
  name: z.string().min(1),
  request: z.object({ method: z.string(), path: z.string(), body: z.unknown() }),
  status: z.int(),
  headers: z.record(z.string(), z.string()),
  body: z.unknown().optional(),
  events: z.array(z.string()).optional(),
});

type Recording = z.output<typeof RecordingSchema>;

const FILES = import.meta.glob<unknown>('../contract/*.json', { import: 'default', eager: true });

/** The recordings whose file name starts with `kind-`. */
function recordings(kind: string): [string, Recording][] {
  return Object.entries(FILES)
    .map(([path, value]) => [path.replace(/^.*\//, ''), value] as const)
    .filter(([file]) => file.startsWith(`${kind}-`))
    .map(([file, value]) => [file, RecordingSchema.parse(value)]);
}

const all = ['chat', 'tokenize', 'models', 'rewards', 'error'].flatMap(recordings);

it('there are recordings of every kind, streamed and whole', () => {
  for (const kind of ['chat', 'tokenize', 'models', 'error'])
    expect([kind, recordings(kind).length > 0]).toEqual([kind, true]);
  expect(recordings('chat').some(([, { events }]) => events !== undefined)).toBe(true);
  expect(recordings('chat').some(([, { body }]) => body !== undefined)).toBe(true);
});

describe.each(all)('%s', (_file, { request, status, headers, body, events }) => {
  if (status !== 200) {
    it('is an error that callers may see', () => {
      const error = readErrorResponse(status, JSON.stringify(body), headers['retry-after'] ?? null);
      expect(isErrorCode(error.code)).toBe(true);
      expect(error.status).toBe(error.code === 'upstream_auth_error' ? 502 : status);
      expect(error.code).not.toBe('upstream_invalid_response');
    });
  } else if (events !== undefined) {
    it('is a stream of chunks that ends with [DONE] or an error event', () => {
      const assembler = new ChatCompletionAssembler();
      const last = events.at(-1) ?? '';
      for (const data of events.slice(0, -1))
        assembler.add(ChatCompletionChunkSchema.parse(JSON.parse(data)));
      if (last !== '[DONE]') {
        expect(readErrorEvent(last)).toBe(true);
        return;
      }
      const { include_usage: hasUsage = false } = z
        .object({ include_usage: z.boolean().optional() })
        .parse(request.body);
      expect(assembler.finish() !== undefined).toBe(hasUsage);
    });
  } else {
    it('is an answer that passes its schema and loses nothing in it', () => {
      const schema = schemaOf(request.path);
      expect(schema.parse(body)).toEqual(body);
    });
  }
});

function schemaOf(path: string): z.ZodType {
  if (path === '/internal/chat') return ChatCompletionSchema;
  if (path === '/internal/tokenize') return TokenCountSchema;
  if (path === '/internal/rewards/compare') return ComparisonAnswerSchema;
  if (path === '/internal/rewards/score') return ScoresAnswerSchema;
  if (path === '/internal/rewards/rank') return RankingAnswerSchema;
  if (path === '/internal/decisions') return DecisionsAnswerSchema;
  if (path === '/internal/models') return z.object({ data: z.array(ModelInfoSchema) });
  throw new Error(`no schema for ${path}`);
}

function readErrorEvent(data: string): boolean {
  const { error } = z.object({ error: z.object({ code: z.string() }) }).parse(JSON.parse(data));
  return isErrorCode(error.code);
}
