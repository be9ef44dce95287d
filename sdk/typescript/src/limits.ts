// What can end one call early: the caller's abort signal, its time, and the client itself when the work is done.
import { TimeoutError } from './errors';

/** One per call; its signal goes to fetch, and its reason is what the call throws. */
export class CallLimits {
  readonly #controller = new AbortController();
  readonly #callerSignal: AbortSignal | undefined;
  readonly #onCallerAbort = () => this.end(this.#callerSignal?.reason);
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(callerSignal: AbortSignal | undefined) {
    this.#callerSignal = callerSignal;
    if (callerSignal?.aborted) this.#onCallerAbort();
    else callerSignal?.addEventListener('abort', this.#onCallerAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Ends the call with a TimeoutError after this time, in place of an earlier one. */
  startTimer(ms: number, message: string, requestId?: string): void {
    this.stopTimer();
    this.#timer = setTimeout(() => this.end(new TimeoutError(message, { requestId })), ms);
  }

  stopTimer(): void {
    clearTimeout(this.#timer);
  }

  /** The result of the work, unless the call ends before: then whatever comes of the work is dropped. */
  guard<T>(work: Promise<T>): Promise<T> {
    const { signal } = this;
    return new Promise<T>((resolve, reject) => {
      const onAbort = () => reject(signal.reason);
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
      void work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    });
  }

  /** Waits; rejects at once when the call ends. */
  sleep(ms: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout>;
    const slept = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    return this.guard(slept).finally(() => clearTimeout(timer));
  }

  /** Aborts what still runs, and lets go of the caller's signal. */
  end(reason?: unknown): void {
    this.stopTimer();
    this.#callerSignal?.removeEventListener('abort', this.#onCallerAbort);
    this.#controller.abort(reason);
  }
}
