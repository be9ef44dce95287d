// One call to the backend for all who ask the same at the same time: each reads every byte of its answer, from the first on.
import { within } from '../../lib/time';
import { encodeHead, type Head } from './head-line';

/** An answer that is longer takes no newcomers, and nobody may lag behind by more. */
const MAX_BUFFERED_BYTES = 1024 * 1024;
/** A whole answer is given this long after its end, until the cache has it. */
const LINGER_MS = 1000;
/** How long a request waits to hear whether the one that began has the whole answer, and pays. */
const MAX_PAYER_WAIT_MS = 10_000;
const TAIL_BYTES = 16;

type Source = AsyncGenerator<Uint8Array, void>;

export class SharedRun {
  readonly #aborting = new AbortController();
  readonly #source: Source;
  /** Where each reader is, as the number of the chunk that it reads next. */
  readonly #readers = new Map<string, { next: number }>();
  readonly #starterId: string;
  readonly #starterReported = Promise.withResolvers<void>();
  #payerId: string | undefined;
  #head: Head | undefined;
  #chunks: Uint8Array[] = [];
  /** How many chunks were let go before those. */
  #numDropped = 0;
  #numBytes = 0;
  #bufferedBytes = 0;
  #reading: Promise<void> | undefined;
  #failure: { error: unknown } | undefined;
  #endedAtMs: number | undefined;

  /** @param start calls the backend, once */
  constructor(starterId: string, start: (signal: AbortSignal) => Promise<Response>) {
    this.#starterId = starterId;
    this.#source = this.#produce(start);
  }

  /** True while a newcomer gets the whole answer without a call of its own. */
  get isOpen(): boolean {
    if (this.#failure !== undefined || this.#aborting.signal.aborted) return false;
    if (this.#numBytes > MAX_BUFFERED_BYTES) return false;
    if (this.#endedAtMs === undefined) return true;
    return this.#isWhole() && Date.now() < this.#endedAtMs + LINGER_MS;
  }

  get isRunning(): boolean {
    return this.#endedAtMs === undefined && this.#failure === undefined && !this.#aborting.signal.aborted;
  }

  /** The head as a line, then the body. */
  join(id: string): ReadableStream<Uint8Array> {
    this.#readers.set(id, { next: 0 });
    return new ReadableStream<Uint8Array>(
      { pull: (controller) => this.#pull(id, controller), cancel: () => this.#leave(id) },
      { highWaterMark: 0 },
    );
  }

  /** True when another request has paid for the answer. */
  async report(id: string, isWhole: boolean): Promise<boolean> {
    if (id === this.#starterId) {
      if (isWhole) this.#payerId ??= id;
      this.#starterReported.resolve();
      return false;
    }
    await within(this.#starterReported.promise, MAX_PAYER_WAIT_MS);
    if (this.#payerId !== undefined) return true;
    if (isWhole) this.#payerId = id;
    return false;
  }

  async *#produce(start: (signal: AbortSignal) => Promise<Response>): Source {
    const response = await start(this.#aborting.signal);
    this.#head = { status: response.status, headers: Object.fromEntries(response.headers) };
    yield encodeHead(this.#head);
    // Copied, because the runtime may use its buffer again.
    for await (const chunk of response.body ?? []) yield (chunk as Uint8Array).slice();
  }

  async #pull(id: string, controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    for (;;) {
      const reader = this.#readers.get(id);
      if (reader === undefined) throw new Error('The reader lagged too far behind.');
      const chunk = this.#chunks[reader.next - this.#numDropped];
      if (chunk !== undefined) {
        reader.next += 1;
        this.#drop();
        controller.enqueue(chunk);
        return;
      }
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#endedAtMs !== undefined) {
        this.#readers.delete(id);
        controller.close();
        return;
      }
      this.#reading ??= this.#read();
      await this.#reading;
    }
  }

  /** Reads one chunk for all; never rejects. */
  async #read(): Promise<void> {
    try {
      const { done, value } = await this.#source.next();
      if (done) this.#endedAtMs = Date.now();
      else this.#add(value);
    } catch (error) {
      this.#failure = { error };
    } finally {
      this.#reading = undefined;
    }
  }

  #add(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#numBytes += chunk.length;
    this.#bufferedBytes += chunk.length;
    this.#drop();
    // Somebody waits for this chunk; whoever is too far behind must not hold them up.
    while (this.#bufferedBytes > MAX_BUFFERED_BYTES && this.#chunks.length > 1) {
      for (const [id, { next }] of this.#readers) {
        if (next === this.#numDropped) this.#readers.delete(id);
      }
      this.#drop();
    }
  }

  /** Lets go of what everybody has read, when no newcomer can want it any more. */
  #drop(): void {
    if (this.#numBytes <= MAX_BUFFERED_BYTES) return;
    const slowest = Math.min(...[...this.#readers.values()].map(({ next }) => next));
    const dropped = this.#chunks.splice(0, Math.max(0, slowest - this.#numDropped));
    this.#numDropped += dropped.length;
    for (const { length } of dropped) this.#bufferedBytes -= length;
  }

  #leave(id: string): void {
    this.#readers.delete(id);
    if (this.#readers.size === 0 && this.isRunning) this.#aborting.abort();
    else this.#drop();
  }

  /** An answer, not an error, and not cut. */
  #isWhole(): boolean {
    if (this.#head?.status !== 200) return false;
    if (!this.#head.headers['content-type']?.startsWith('text/event-stream')) return true;
    const bytes = this.#chunks.slice(-TAIL_BYTES).flatMap((chunk) => [...chunk.subarray(-TAIL_BYTES)]);
    return /\[DONE\]\s*$/.test(new TextDecoder().decode(new Uint8Array(bytes.slice(-TAIL_BYTES))));
  }
}
