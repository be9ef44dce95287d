// A streamed answer as an async iterable: read once, ended by `[DONE]`, by an error, or by the reader who leaves.
import { AttuneError, StreamError, errorOfEvent, parseJson } from './errors';
import type { CallLimits } from './limits';
import { EventDecoder, type ServerSentEvent } from './sse';

const DONE = '[DONE]';
/** No event comes near this; a longer one is a broken server, and must not fill memory. */
const MAX_EVENT_CHARS = 1024 * 1024;
/** How long a server may take to end an answer after its `[DONE]`. */
const LAST_WORD_MS = 1_000;

interface StreamOptions {
  idleTimeoutMs: number;
  requestId: string | undefined;
  /** Takes the API key out of what the server says. */
  redact: (text: string) => string;
}

/** Chunks of an answer. Leaving the loop, or `return()` of the iterator, aborts the request. */
export class Stream<T> implements AsyncIterable<T> {
  readonly requestId: string | undefined;
  readonly #body: ReadableStream<Uint8Array>;
  readonly #limits: CallLimits;
  readonly #options: StreamOptions;
  #isTaken = false;
  #hasLeft = false;

  constructor(body: ReadableStream<Uint8Array>, limits: CallLimits, options: StreamOptions) {
    this.requestId = options.requestId;
    this.#body = body;
    this.#limits = limits;
    this.#options = options;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<T> {
    if (this.#isTaken)
      throw new StreamError('A stream can be read only once.', { requestId: this.requestId });
    this.#isTaken = true;
    const chunks = this.#read();
    const iterator: AsyncIterableIterator<T> = {
      next: () => chunks.next(),
      return: () => {
        // A generator that waits, or has not begun, would not hear of this by itself.
        this.#hasLeft = true;
        this.#limits.end();
        return chunks.return(undefined);
      },
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  async *#read(): AsyncGenerator<T, undefined> {
    const reader = this.#body.getReader();
    const decoder = new EventDecoder();
    const { signal } = this.#limits;
    let isComplete = false;
    try {
      while (true) {
        const { done, value } = await this.#next(reader);
        if (done) throw this.#error('The stream ended before the answer was complete.', 'stream_interrupted');
        for (const event of decoder.push(value)) {
          signal.throwIfAborted();
          if (event.data === DONE) {
            isComplete = true;
            return undefined;
          }
          yield this.#parse(event);
        }
        if (decoder.heldChars > MAX_EVENT_CHARS)
          throw this.#error('The stream has an event without end.', 'invalid_response');
      }
    } catch (error) {
      if (this.#hasLeft) return undefined;
      if (signal.aborted) throw signal.reason;
      if (error instanceof AttuneError) throw error;
      throw this.#error('The connection broke before the answer was complete.', 'stream_interrupted', error);
    } finally {
      if (isComplete) void this.#readToEnd(reader);
      else this.#leave(reader);
    }
  }

  /** In the background: a connection whose answer was read to its end can serve the next call. */
  async #readToEnd(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    this.#limits.startTimer(LAST_WORD_MS, 'The server did not end a complete answer.');
    try {
      while (!(await this.#limits.guard(reader.read())).done);
    } catch {
      // The answer is complete: how its connection ends is nobody's concern.
    } finally {
      this.#leave(reader);
    }
  }

  #leave(reader: ReadableStreamDefaultReader<Uint8Array>): void {
    this.#limits.end();
    reader.cancel().catch(() => {});
  }

  /** Any byte is a sign of life, a keep-alive comment too; time that the reader takes between chunks does not count. */
  async #next(reader: ReadableStreamDefaultReader<Uint8Array>) {
    const ms = this.#options.idleTimeoutMs;
    this.#limits.startTimer(ms, `The stream was silent for ${ms} ms.`, this.requestId);
    try {
      return await this.#limits.guard(reader.read());
    } finally {
      this.#limits.stopTimer();
    }
  }

  #parse({ event, data }: ServerSentEvent): T {
    const value = parseJson(data);
    const isObject = typeof value === 'object' && value !== null;
    if (event === 'error' || (isObject && 'error' in value))
      throw errorOfEvent(parseJson(this.#options.redact(data)), this.requestId);
    if (!isObject) throw this.#error('The stream has an event that is not valid.', 'invalid_response');
    return value as T;
  }

  #error(message: string, code: string, cause?: unknown): StreamError {
    return new StreamError(message, { code, requestId: this.requestId, cause });
  }
}
