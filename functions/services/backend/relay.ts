// The way back of a request: passes a backend's event stream on, byte for byte, and never lets it end in silence.
import { ApiError } from '../../errors';
import { ChatCompletionChunkSchema, type ChatCompletionChunk } from '../../schemas/chat-completion';
import { DONE, encodeEvent, EventSplitter, KEEP_ALIVE, PROBE } from '../../lib/sse';
import { TIMED_OUT, within } from '../../lib/time';
import {
  deadlinePassed,
  invalidResponse,
  isTimeout,
  parseJson,
  readEnvelope,
  streamInterrupted,
} from './upstream-error';

/** No event of a chat stream comes near this; a longer one is a broken backend. */
export const MAX_EVENT_BYTES = 1024 * 1024;

export interface RelayOptions {
  /** The call that opens the backend's stream, already running. */
  opening: Promise<ReadableStream<Uint8Array>>;
  /** Ends the backend's work: the caller left, or the stream is over. */
  abort: () => void;
  /** Aborted when the caller has left: nobody hears an error any more. */
  signal: AbortSignal;
  acceptedAtMs: number;
  keepAliveMs: number;
  /** Time after which silence is broken by an empty comment, for runtimes that see a caller leave only when they write. */
  probeMs: number;
  /** The event that reports an error to the caller, as JSON data. */
  describeError: (error: unknown) => unknown;
  /** Sees every chunk; false keeps it from the caller. */
  onChunk?: (chunk: ChatCompletionChunk) => boolean;
  /** Runs after a complete answer and before `[DONE]` goes out. */
  onComplete?: () => Promise<void>;
}

/**
 * The stream for the caller. Resolves when the backend has accepted the request, or after one
 * keep-alive interval without a word from it: from then on failures are events, because the status
 * is sent. Rejects when the backend refuses before that.
 */
export async function relayEvents(options: RelayOptions): Promise<ReadableStream<Uint8Array>> {
  const relay = new Relay(options);
  await relay.waitForAnswer();
  return new ReadableStream<Uint8Array>(
    { pull: (controller) => relay.pull(controller), cancel: () => options.abort() },
    // Nothing is read ahead: a slow caller slows the backend down instead of filling memory here.
    { highWaterMark: 0 },
  );
}

class Relay {
  readonly #options: RelayOptions;
  readonly #splitter = new EventSplitter();
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #next: Promise<ReadableStreamReadResult<Uint8Array>>;
  #keepAliveAtMs: number;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#keepAliveAtMs = options.acceptedAtMs + options.keepAliveMs;
    this.#next = options.opening.then((stream) => {
      this.#reader = stream.getReader();
      return read(this.#reader);
    });
    // Awaited at the next pull, or never when the caller has left: it is not an unhandled rejection.
    this.#next.catch(() => {});
  }

  /** The backend's own status, if it comes within one keep-alive interval. */
  async waitForAnswer(): Promise<void> {
    await within(this.#options.opening, this.#keepAliveAtMs - Date.now());
  }

  /** Gives the caller whole events or a keep-alive comment; always something, or nothing asks again. */
  async pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    try {
      let given = false;
      while (!given) {
        const untilKeepAliveMs = this.#keepAliveAtMs - Date.now();
        const isKeepAliveNext = untilKeepAliveMs <= this.#options.probeMs;
        const waitMs = isKeepAliveNext ? untilKeepAliveMs : this.#options.probeMs;
        const result = await within(this.#next, waitMs);
        if (result === TIMED_OUT) {
          controller.enqueue(isKeepAliveNext ? KEEP_ALIVE : PROBE);
          if (isKeepAliveNext) this.#keepAliveAtMs += this.#options.keepAliveMs;
          given = true;
        } else {
          given = await this.#pass(result, controller);
        }
        // What became due while data flowed is not made up for.
        while (this.#keepAliveAtMs <= Date.now()) this.#keepAliveAtMs += this.#options.keepAliveMs;
      }
    } catch (error) {
      if (this.#options.signal.aborted) return;
      controller.enqueue(encodeEvent(this.#options.describeError(error)));
      this.#close(controller);
    }
  }

  /** Passes on what one read gave; true when something went out. */
  async #pass(
    result: ReadableStreamReadResult<Uint8Array>,
    controller: ReadableStreamDefaultController<Uint8Array>,
  ): Promise<boolean> {
    if (result.done || this.#reader === undefined) throw streamInterrupted(undefined);
    const events = this.#splitter.push(result.value);
    if (this.#splitter.heldBytes > MAX_EVENT_BYTES) throw invalidResponse('an endless event');
    let given = false;
    for (const event of events) {
      if (event.data === DONE) await this.#options.onComplete?.();
      else if (event.data !== undefined && !this.#inspect(event.data)) continue;
      controller.enqueue(event.bytes);
      given = true;
      if (event.data === DONE) {
        this.#close(controller);
        return true;
      }
    }
    this.#next = read(this.#reader);
    this.#next.catch(() => {});
    return given;
  }

  /** False when the event is not for the caller; throws on an error, stated by the backend or found here. */
  #inspect(data: string): boolean {
    const value = parseJson(data);
    if (typeof value === 'object' && value !== null && 'error' in value) {
      throw readEnvelope(value) ?? invalidResponse(data.slice(0, 500));
    }
    const chunk = ChatCompletionChunkSchema.safeParse(value);
    if (!chunk.success) throw invalidResponse(chunk.error);
    return this.#options.onChunk?.(chunk.data) ?? true;
  }

  #close(controller: ReadableStreamDefaultController<Uint8Array>): void {
    controller.close();
    this.#options.abort();
  }
}

async function read(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<ReadableStreamReadResult<Uint8Array>> {
  try {
    return await reader.read();
  } catch (error) {
    // A driver that reads the stream itself has said already what is wrong.
    if (error instanceof ApiError) throw error;
    throw isTimeout(error) ? deadlinePassed(error) : streamInterrupted(error);
  }
}
