// Keeps the bytes of an answer while they pass to the caller.

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

/** The answer, to be given instead of the one that it was. */
export async function recordAnswer(
  response: Response,
  options: Options & { hasFailed: () => boolean },
): Promise<Response> {
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

/** An answer that comes bit by bit: nothing is read before the caller wants it, and a caller who leaves ends it. */
function recordStream(
  response: Response,
  { maxBytes, onEnd, hasFailed }: Options & { hasFailed: () => boolean },
): Response {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const kept = new KeptBytes(maxBytes);
  const failed = { isComplete: false, body: null };
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (done) {
            controller.close();
            onEnd(hasFailed() ? failed : { isComplete: true, body: kept.join() });
          } else {
            kept.add(value);
            controller.enqueue(value);
          }
        } catch (error) {
          onEnd(failed);
          throw error;
        }
      },
      async cancel(reason) {
        onEnd(failed);
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(stream, response);
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
