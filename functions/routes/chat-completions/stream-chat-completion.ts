// The streaming half of createChatCompletion: relays events and keeps the answer when asked to.
import type { Context } from 'hono';
import { backendCall } from '../../backend-call';
import type { AppEnv } from '../../context';
import { ApiError } from '../../errors';
import { timed } from '../../middleware/timing';
import { describeStreamError } from '../../on-error';
import type { CreateChatCompletion } from '../../schemas/create-chat-completion';
import { relayEvents, type ChatCall, type RelayOptions } from '../../services/backend';
import { ChatCompletionAssembler } from '../../services/chat-completions';

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store',
  // Tells nginx and its like not to collect events before they pass them on.
  'x-accel-buffering': 'no',
};

/** Answers with the backend's events; fails like any other request until the stream has begun. */
export async function streamChatCompletion(
  c: Context<AppEnv>,
  body: CreateChatCompletion,
  chat: ChatCall,
): Promise<Response> {
  const { backend, keepAliveMs, probeMs } = c.var.services;
  const ours = new AbortController();
  const call = backendCall(c);
  const signal = AbortSignal.any([call.signal, ours.signal]);
  const stored = body.store === true ? storing(c, body, chat) : undefined;
  const stream = await timed(
    c,
    'backend',
    relayEvents({
      opening: backend.streamChat(stored?.chat ?? chat, { ...call, signal }),
      abort: () => ours.abort(),
      signal,
      acceptedAtMs: c.var.acceptedAtMs,
      keepAliveMs,
      probeMs,
      describeError: (error) => describeStreamError(error, c),
      ...stored?.observer,
    }),
  );
  return c.body(stream, 200, HEADERS);
}

/**
 * What it takes to keep a streamed answer: the usage is asked for in any case, but only passed on
 * when the caller wants it, and the answer is written before `[DONE]`, so that it can be read then.
 */
function storing(
  c: Context<AppEnv>,
  body: CreateChatCompletion,
  chat: ChatCall,
): { chat: ChatCall; observer: Pick<RelayOptions, 'onChunk' | 'onComplete'> } {
  const assembler = new ChatCompletionAssembler();
  return {
    chat: { ...chat, include_usage: true },
    observer: {
      onChunk: (chunk) => {
        assembler.add(chunk);
        return chat.include_usage || chunk.choices.length > 0;
      },
      onComplete: async () => {
        const completion = assembler.finish();
        if (completion === undefined) throw incomplete();
        const stored = { ...completion, metadata: body.metadata ?? {} };
        const saving = c.var.services.chatCompletions.save(c.var.key.projectId, stored);
        // A caller who leaves now still finds the answer later.
        c.executionCtx.waitUntil(saving.catch(() => {}));
        await saving;
      },
    },
  };
}

function incomplete(): ApiError {
  const message = 'The backend ended its stream before the answer was complete.';
  return new ApiError('upstream_invalid_response', message);
}
