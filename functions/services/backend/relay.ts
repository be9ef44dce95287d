// The way back of a request: passes a backend's event stream on, byte for byte, and never lets it end in silence.
import { ApiError } from '../../errors';
import { ChatCompletionChunkSchema, type ChatCompletionChunk } from '../../schemas/chat-completion';
import { isPlainChunk } from '../../schemas/plain-chunk';
import { DONE, encodeEvent, EventSplitter, KEEP_ALIVE, PROBE } from '../../lib/sse';
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

/** What a read gave. */
type Arrival = { result: ReadableStreamReadResult<Uint8Array> } | { error: unknown };

class Relay {
  readonly #options: RelayOptions;
  readonly #splitter = new EventSplitter();
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #isReading = false;
  #arrival: Arrival | undefined;
  /** Ends the wait of a pull. */
  #wake: () => void = () => {};
  #keepAliveAtMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAtMs = Infinity;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#keepAliveAtMs = options.acceptedAtMs + options.keepAliveMs;
    // Read at the first pull, or never when the caller has left: it is not an unhandled rejection.
    options.opening.catch(() => {});
  }

  /** The backend's own status, if it comes within one keep-alive interval. */
  async waitForAnswer(): Promise<void> {
    await within(this.#options.opening, this.#keepAliveAtMs - Date.now());
  }

  /** Gives the caller whole events or a keep-alive comment; always something, or nothing asks again. */
  async pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    const probeAtMs = Date.now() + this.#options.probeMs;
    try {
      for (let given = false; !given;) {
        const arrival = await this.#arrivalBefore(Math.min(probeAtMs, this.#keepAliveAtMs));
        if (arrival === undefined) {
          controller.enqueue(this.#keepAliveAtMs <= Date.now() ? KEEP_ALIVE : PROBE);
          given = true;
        } else given = await this.#pass(arrival, controller);
        // What became due while data flowed is not made up for.
        while (this.#keepAliveAtMs <= Date.now()) this.#keepAliveAtMs += this.#options.keepAliveMs;
      }
    } catch (error) {
      if (this.#options.signal.aborted) return;
      controller.enqueue(encodeEvent(this.#options.describeError(error)));
      this.#close(controller);
    }
  }

  /** The caller has left. */
  cancel(): void {
    clearTimeout(this.#timer);
    this.#options.abort();
  }

  /** What the next read gives, or undefined when the moment comes first; the read goes on then. */
  async #arrivalBefore(untilMs: number): Promise<Arrival | undefined> {
    if (this.#arrival === undefined && !this.#isReading) void this.#read();
    while (this.#arrival === undefined && Date.now() < untilMs) {
      this.#setTimer(untilMs);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const arrival = this.#arrival;
    this.#arrival = undefined;
    return arrival;
  }

  /** Never rejects. Who waits is woken instead of waiting for this promise: each wait would leave something with it. */
  async #read(): Promise<void> {
    this.#isReading = true;
    try {
      this.#reader ??= (await this.#options.opening).getReader();
      this.#arrival = { result: await this.#reader.read() };
    } catch (error) {
      this.#arrival = { error: this.#reader === undefined ? error : describeFault(error) };
    }
    this.#isReading = false;
    this.#wake();
  }

  /** One that rings too early stays: while data flows, none is set for each event. */
  #setTimer(atMs: number): void {
    if (this.#timerAtMs <= atMs) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = atMs;
    this.#timer = setTimeout(() => {
      this.#timerAtMs = Infinity;
      this.#wake();
    }, atMs - Date.now());
  }

  /** Passes on what one read gave; true when something went out. */
  async #pass(arrival: Arrival, controller: ReadableStreamDefaultController<Uint8Array>): Promise<boolean> {
    if ('error' in arrival) throw arrival.error;
    if (arrival.result.done) throw streamInterrupted(undefined);
    const events = this.#splitter.push(arrival.result.value);
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
    return given;
  }

  /** False when the event is not for the caller; throws on an error, stated by the backend or found here. */
  #inspect(data: string): boolean {
    const value = parseJson(data);
    if (typeof value === 'object' && value !== null && 'error' in value) {
      throw readEnvelope(value) ?? invalidResponse(data.slice(0, 500));
    }
    return this.#options.onChunk?.(readChunk(value)) ?? true;
  }

  #close(controller: ReadableStreamDefaultController<Uint8Array>): void {
    clearTimeout(this.#timer);
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
