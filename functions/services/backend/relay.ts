// The way back of a request: passes a backend's event stream on, byte for byte, and never lets it end in silence.
import { ApiError } from '../../errors';
import { ChatCompletionChunkSchema, type ChatCompletionChunk } from '../../schemas/chat-completion';
import { isPlainChunk } from '../../schemas/plain-chunk';
import { DONE, encodeEvent, EventSplitter, KEEP_ALIVE, PROBE, type StreamEvent } from '../../lib/sse';
import { within } from '../../lib/time';
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

type Controller = ReadableStreamDefaultController<Uint8Array>;

/**
 * The stream for the caller. Resolves when the backend has accepted the request, or after one
 * keep-alive interval without a word from it: from then on failures are events, because the status
 * is sent. Rejects when the backend refuses before that.
 */
export async function relayEvents(options: RelayOptions): Promise<ReadableStream<Uint8Array>> {
  const relay = new Relay(options);
  await relay.waitForAnswer();
  return new ReadableStream<Uint8Array>(
    { pull: (controller) => relay.pull(controller), cancel: () => relay.cancel() },
    // Nothing is read ahead: a slow caller slows the backend down instead of filling memory here.
    { highWaterMark: 0 },
  );
}

class Relay {
  readonly #options: RelayOptions;
  readonly #splitter = new EventSplitter();
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #isReading = false;
  /** The caller has asked for something and got nothing yet. */
  #isAwaited = false;
  #probeAtMs = Infinity;
  #keepAliveAtMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAtMs = Infinity;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#keepAliveAtMs = options.acceptedAtMs + options.keepAliveMs;
    // Awaited at the first pull, or never when the caller has left: it is not an unhandled rejection.
    options.opening.catch(() => {});
  }

  /** The backend's own status, if it comes within one keep-alive interval. */
  async waitForAnswer(): Promise<void> {
    await within(this.#options.opening, this.#keepAliveAtMs - Date.now());
  }

  /** Reads until there is something for the caller; a comment may go out before, and the read goes on then. */
  pull(controller: Controller): void {
    this.#isAwaited = true;
    this.#probeAtMs = Date.now() + this.#options.probeMs;
    this.#setTimer(controller);
    if (!this.#isReading) void this.#read(controller);
  }

  /** The caller has left. */
  cancel(): void {
    this.#isAwaited = false;
    clearTimeout(this.#timer);
    this.#options.abort();
  }

  async #read(controller: Controller): Promise<void> {
    this.#isReading = true;
    try {
      this.#reader ??= (await this.#options.opening).getReader();
      do {
        let result: ReadableStreamReadResult<Uint8Array>;
        try {
          result = await this.#reader.read();
        } catch (error) {
          throw describeFault(error);
        }
        if (result.done) throw streamInterrupted(undefined);
        for (const event of this.#split(result.value)) {
          if (event.data === DONE) {
            await this.#options.onComplete?.();
            this.#end(controller, event.bytes);
            return;
          }
          if (event.data !== undefined && !this.#inspect(event.data)) continue;
          // Before it is given: a caller who has asked for more already does so again at once.
          this.#isAwaited = false;
          controller.enqueue(event.bytes);
        }
      } while (this.#isAwaited);
      this.#planKeepAlive();
      this.#isReading = false;
    } catch (error) {
      if (!this.#options.signal.aborted) {
        this.#end(controller, encodeEvent(this.#options.describeError(error)));
      }
    }
  }

  /** A timer that rings too early is left alone: while data flows, none is set for each event. */
  #setTimer(controller: Controller): void {
    const atMs = Math.min(this.#probeAtMs, this.#keepAliveAtMs);
    if (this.#timerAtMs <= atMs) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = atMs;
    this.#timer = setTimeout(() => {
      this.#timerAtMs = Infinity;
      if (this.#isAwaited) this.#breakSilence(controller);
    }, atMs - Date.now());
  }

  #breakSilence(controller: Controller): void {
    const nowMs = Date.now();
    const isKeepAlive = this.#keepAliveAtMs <= nowMs;
    if (!isKeepAlive && nowMs < this.#probeAtMs) return this.#setTimer(controller);
    this.#isAwaited = false;
    this.#planKeepAlive();
    return controller.enqueue(isKeepAlive ? KEEP_ALIVE : PROBE);
  }

  /** What became due while data flowed, or nobody asked, is not made up for. */
  #planKeepAlive(): void {
    while (this.#keepAliveAtMs <= Date.now()) this.#keepAliveAtMs += this.#options.keepAliveMs;
  }

  #split(bytes: Uint8Array): StreamEvent[] {
    const events = this.#splitter.push(bytes);
    if (this.#splitter.heldBytes > MAX_EVENT_BYTES) throw invalidResponse('an endless event');
    return events;
  }

  /** False when the event is not for the caller; throws on an error, stated by the backend or found here. */
  #inspect(data: string): boolean {
    const value = parseJson(data);
    if (typeof value === 'object' && value !== null && 'error' in value) {
      throw readEnvelope(value) ?? invalidResponse(data.slice(0, 500));
    }
    return this.#options.onChunk?.(readChunk(value)) ?? true;
  }

  #end(controller: Controller, lastEvent: Uint8Array): void {
    this.#isAwaited = false;
    clearTimeout(this.#timer);
    controller.enqueue(lastEvent);
    controller.close();
    this.#options.abort();
  }
}

function readChunk(value: unknown): ChatCompletionChunk {
  if (isPlainChunk(value)) return value;
  const chunk = ChatCompletionChunkSchema.safeParse(value);
  if (!chunk.success) throw invalidResponse(chunk.error);
  return chunk.data;
}

/** What a read that failed means. */
function describeFault(error: unknown): unknown {
  // A driver that reads the stream itself has said already what is wrong.
  if (error instanceof ApiError) return error;
  return isTimeout(error) ? deadlinePassed(error) : streamInterrupted(error);
}
