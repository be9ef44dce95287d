// The streaming half of createChatCompletion: relays events, settles what they used, and keeps the answer when asked to.
import type { Context } from 'hono';
import { backendCall } from '../../backend-call';
import type { AppEnv } from '../../context';
import { ApiError } from '../../errors';
import { timed } from '../../middleware/timing';
import { describeStreamError } from '../../on-error';
import type { ChatCompletionChunk } from '../../schemas/chat-completion';
import type { CreateChatCompletion } from '../../schemas/create-chat-completion';
import { type BackendCall, type ChatCall, relayEvents } from '../../services/backend';
import { ChatCompletionAssembler } from '../../services/chat-completions';
import type { TokenUse } from '../../services/ledger';
import { chooseBest } from './best-of';
import { StreamedTokens } from './chat-estimate';
import { answerOrEscalate } from './escalate';
import { noteDepth } from './note-depth';
import { toEventStream } from './to-event-stream';

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
  const { keepAliveMs, probeMs } = c.get('services');
  const ours = new AbortController();
  const call = backendCall(c);
  const signal = AbortSignal.any([call.signal, ours.signal]);
  const stored = body.store === true ? storing(c, body) : undefined;
  const isWholeFirst = Boolean(body.best_of ?? body.escalate);
  const metered = metering(c, signal, isWholeFirst ? c.get('metering').most : undefined);
  const stream = await timed(
    c,
    'backend',
    relayEvents({
      // The usage is asked for in any case, but only passed on when the caller wants it.
      opening: open(c, body, chat, { ...call, signal }),
      abort: () => ours.abort(),
      signal,
      acceptedAtMs: c.get('acceptedAtMs'),
      keepAliveMs,
      probeMs,
      describeError: (error) => {
        metered.fail();
        return describeStreamError(error, c);
      },
      onChunk: (chunk) => {
        metered.add(chunk);
        noteDepth(c, chunk);
        stored?.add(chunk);
        return chat.include_usage || chunk.choices.length > 0;
      },
      ...(stored === undefined ? {} : { onComplete: stored.save }),
    }),
  );
  return c.body(stream, 200, HEADERS);
}

/** Where several models make an answer it is known whole before it is given. */
async function open(
  c: Context<AppEnv>,
  body: CreateChatCompletion,
  chat: ChatCall,
  call: BackendCall,
): Promise<ReadableStream<Uint8Array>> {
  if (body.reward_model) return toEventStream(await chooseBest(c, body, body.reward_model, chat, call));
  if (body.escalate) return toEventStream(await answerOrEscalate(c, body.escalate, chat, call));
  return c.get('services').backend.streamChat({ ...chat, include_usage: true }, call);
}

/**
 * Settles when the stream is over, which aborts the signal whoever ended it: backend, caller or a fault.
 * `hidden` is the most that a caller who leaves before the first chunk has used, where work is done before it.
 */
function metering(c: Context<AppEnv>, signal: AbortSignal, hidden: TokenUse | undefined) {
  const metering = c.get('metering');
  const tokens = new StreamedTokens(metering.most);
  let hasFailed = false;
  metering.hold();
  signal.addEventListener('abort', () => {
    if (hasFailed && !tokens.isBegun) metering.release();
    else if (hidden !== undefined && !tokens.isBegun) metering.settle(hidden, false);
    else metering.settle(tokens.total(), tokens.isWhole);
  });
  return {
    add: (chunk: ChatCompletionChunk) => tokens.add(chunk),
    fail: () => {
      hasFailed = true;
    },
  };
}

/** What it takes to keep a streamed answer: it is written before `[DONE]`, so that it can be read then. */
function storing(c: Context<AppEnv>, body: CreateChatCompletion) {
  const assembler = new ChatCompletionAssembler();
  return {
    add: (chunk: ChatCompletionChunk) => assembler.add(chunk),
    save: async () => {
      const completion = assembler.finish();
      if (completion === undefined) throw incomplete();
      const stored = { ...completion, metadata: body.metadata ?? {} };
      const saving = c.get('services').chatCompletions.save(c.get('key').projectId, stored);
      // A caller who leaves now still finds the answer later.
      c.executionCtx.waitUntil(saving.catch(() => {}));
      await saving;
    },
  };
}

function incomplete(): ApiError {
  const message = 'The backend ended its stream before the answer was complete.';
  return new ApiError('upstream_invalid_response', message);
}
