// Keeps the bytes of an answer while they pass to the caller.
import { onAbort } from '../lib/time';

export interface Recording {
  /** False when the answer failed, or its caller left before its end. */
  isComplete: boolean;
  /** Null when it has more bytes than may be kept. */
  body: Uint8Array | null;
}

interface Options {
  maxBytes: number;
  onEnd: (recording: Recording) => void;
}

interface StreamOptions extends Options {
  hasFailed: () => boolean;
  /** Lets a stream go on when its caller has left, which is said to `leaving`, until it is given up. */
  outlives?: { leaving: AbortController; givingUp: AbortSignal };
}

/** The answer, to be given instead of the one that it was. */
export async function recordAnswer(response: Response, options: StreamOptions): Promise<Response> {
  return isEventStream(response) ? recordStream(response, options) : record(response, options);
}

export function isEventStream(response: Response): boolean {
  return response.headers.get('content-type')?.startsWith('text/event-stream') === true;
}

/** An answer that is ready: it is read whole, so that it is kept also when its caller is gone. */
async function record(response: Response, { maxBytes, onEnd }: Options): Promise<Response> {
  const body = new Uint8Array(await response.arrayBuffer());
  onEnd({ isComplete: true, body: body.length > maxBytes ? null : body });
  return new Response(body, response);
}

/** An answer that comes bit by bit: nothing is read before the caller wants it, and a caller who leaves ends it, unless it is to go on. */
function recordStream(response: Response, options: StreamOptions): Response {
  const reader = new RecordingReader(response.body as ReadableStream<Uint8Array>, options);
  const { outlives } = options;
  if (outlives !== undefined) {
    onAbort(outlives.leaving.signal, () => void reader.drain());
    onAbort(outlives.givingUp, () => void reader.cancel(outlives.givingUp.reason).catch(() => {}));
  }
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => (outlives === undefined ? reader.cancel(reason) : outlives.leaving.abort(reason)),
    },
    { highWaterMark: 0 },
  );
  return new Response(stream, response);
}

/** Reads a stream and says once how it ended. */
class RecordingReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #kept: KeptBytes;
  readonly #options: StreamOptions;

  constructor(stream: ReadableStream<Uint8Array>, options: StreamOptions) {
    this.#reader = stream.getReader();
    this.#kept = new KeptBytes(options.maxBytes);
    this.#options = options;
  }

  async read(): Promise<ReadableStreamReadResult<Uint8Array>> {
    try {
      const result = await this.#reader.read();
      if (result.done) this.#end(!this.#options.hasFailed());
      else this.#kept.add(result.value);
      return result;
    } catch (error) {
      this.#end(false);
      throw error;
    }
  }

  /** Reads what is left, for nobody but the record. */
  async drain(): Promise<void> {
    try {
      while (!(await this.read()).done);
    } catch {
      // It has been said that the answer failed.
    }
  }

  async cancel(reason: unknown): Promise<void> {
    this.#end(false);
    await this.#reader.cancel(reason);
  }

  /** Whoever listens hears the first end only. */
  #end(isComplete: boolean): void {
    this.#options.onEnd({ isComplete, body: isComplete ? this.#kept.join() : null });
  }
}

/** Chunks up to a number of bytes; past it they are let go. */
class KeptBytes {
  readonly #maxBytes: number;
  #chunks: Uint8Array[] = [];
  #size = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(chunk: Uint8Array): void {
    this.#size += chunk.length;
    if (this.#size <= this.#maxBytes) this.#chunks.push(chunk.slice());
    else this.#chunks = [];
  }

  join(): Uint8Array | null {
    if (this.#size > this.#maxBytes) return null;
    const bytes = new Uint8Array(this.#size);
    let offset = 0;
    for (const chunk of this.#chunks) {
      bytes.set(chunk, offset);
      offset += chunk.length;
    }
    return bytes;
  }
}
