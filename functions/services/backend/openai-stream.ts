// The events of a server with OpenAI's protocol, one by one as our own: checked, renamed, and with the usage last.
import type { z } from 'zod';
import { DONE, encodeEvent, EventSplitter } from '../../lib/sse';
import type { ChatCall } from './interface';
import { OpenAiChunkSchema, toChunk, toUsageChunk } from './openai-answer';
import { MAX_EVENT_BYTES } from './relay';
import { invalidResponse, parseJson, streamInterrupted } from './upstream-error';

type OpenAiChunk = z.output<typeof OpenAiChunkSchema>;

const DONE_EVENT = new TextEncoder().encode(`data: ${DONE}\n\n`);

/** Reads no further than it is asked; errors with an ApiError for what is not right in the stream. */
export function toOurEvents(source: ReadableStream<Uint8Array>, call: ChatCall): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  const translator = new EventTranslator(call);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          let events: Uint8Array[] = [];
          while (events.length === 0 && !translator.isOver) {
            const { done, value } = await reader.read();
            // The relay knows what an end without [DONE] means.
            if (done) return controller.close();
            events = translator.push(value);
          }
          for (const event of events) controller.enqueue(event);
          if (!translator.isOver) return undefined;
          controller.close();
        } catch (error) {
          controller.error(error);
        }
        return reader.cancel().catch(() => {});
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

class EventTranslator {
  readonly #call: ChatCall;
  readonly #splitter = new EventSplitter();
  #usage: OpenAiChunk['usage'];
  isOver = false;

  constructor(call: ChatCall) {
    this.#call = call;
  }

  push(bytes: Uint8Array): Uint8Array[] {
    const events = this.#splitter.push(bytes);
    if (this.#splitter.heldBytes > MAX_EVENT_BYTES) throw invalidResponse('an endless event');
    const given: Uint8Array[] = [];
    for (const event of events) {
      if (event.data === undefined) continue;
      if (event.data === DONE) {
        this.isOver = true;
        if (this.#usage && this.#call.include_usage) {
          given.push(encodeEvent(toUsageChunk(this.#usage, this.#call)));
        }
        return [...given, DONE_EVENT];
      }
      const chunk = toChunk(this.#read(event.data), this.#call);
      if (chunk !== undefined) given.push(encodeEvent(chunk));
    }
    return given;
  }

  /** Servers tell the usage with the last piece, after it or with each one: the last word counts. */
  #read(data: string): OpenAiChunk {
    const value = parseJson(data);
    if (typeof value === 'object' && value !== null && 'error' in value && value.error !== null) {
      throw streamInterrupted(data.slice(0, 500));
    }
    const chunk = OpenAiChunkSchema.safeParse(value);
    if (!chunk.success) throw invalidResponse(chunk.error);
    this.#usage = chunk.data.usage ?? this.#usage;
    return chunk.data;
  }
}
