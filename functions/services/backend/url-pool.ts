// Which address takes a call: of those whose breaker lets it through, the one with the fewest calls running.
import { ApiError, ERRORS } from '../../errors';
import { CircuitBreaker } from './circuit-breaker';
import { backendUnavailable } from './upstream-error';

/** Running calls that the runtime dropped without a word are looked for this often. */
const SWEEP_MS = 1_000;
const MIN_RETRY_AFTER_MS = 1_000;

/** Nothing but numbers: what one request makes, such as a promise, must not be awaited in another. */
interface Address {
  readonly url: string;
  readonly breaker: CircuitBreaker;
  /** The running calls, and when each is over at the latest. */
  readonly running: Map<Place, number>;
  sweepAtMs: number;
  usedAt: number;
  lastFailure: ApiError | undefined;
}

/** Lives as long as the isolate: each isolate learns for itself which addresses are well. */
export class UrlPool {
  readonly #addresses: Address[];
  #uses = 0;

  constructor(urls: readonly string[]) {
    this.#addresses = urls.map((url) => ({
      url,
      breaker: new CircuitBreaker(),
      running: new Map(),
      sweepAtMs: 0,
      usedAt: 0,
      lastFailure: undefined,
    }));
  }

  /** A place at the best address but `except`, for at most `limitMs`; undefined when none may be called. */
  take(nowMs: number, limitMs: number, except?: string): Place | undefined {
    let best: Address | undefined;
    for (const address of this.#addresses) {
      if (address.url === except || !address.breaker.allows(nowMs)) continue;
      sweep(address, nowMs);
      if (best === undefined || isBetter(address, best)) best = address;
    }
    if (best === undefined) return undefined;
    best.usedAt = ++this.#uses;
    const place = new Place(best, best.breaker.admit(nowMs));
    best.running.set(place, nowMs + limitMs);
    return place;
  }

  /** Why none may be called: what the address that is tried again first said last. */
  whyNone(nowMs: number): ApiError {
    const [next] = this.#addresses.toSorted(
      (a, b) => a.breaker.coolDownMs(nowMs) - b.breaker.coolDownMs(nowMs),
    );
    const failure = next?.lastFailure ?? backendUnavailable('no address may be called');
    const retryAfterMs = Math.max(next?.breaker.coolDownMs(nowMs) ?? 0, MIN_RETRY_AFTER_MS);
    return new ApiError(failure.code, failure.message, {
      cause: `not called, its circuit is open; the last failure was ${describe(failure.options.cause)}`,
      ...(ERRORS[failure.code].status === 503 ? { retryAfterMs } : {}),
    });
  }
}

/** One running call at one address; it ends with what the call says about the address. */
export class Place {
  readonly #address: Address;
  readonly #isProbe: boolean;

  constructor(address: Address, isProbe: boolean) {
    this.#address = address;
    this.#isProbe = isProbe;
  }

  get url(): string {
    return this.#address.url;
  }

  succeed(): void {
    this.#address.breaker.succeed();
  }

  fail(nowMs: number, error: ApiError): void {
    this.#address.breaker.fail(nowMs, this.#isProbe);
    this.#address.lastFailure = error;
  }

  /** The call says nothing about the address: its caller left, for example. */
  forget(): void {
    this.#address.breaker.forget(this.#isProbe);
  }

  /** The call runs no longer; may be said twice. */
  leave(): void {
    this.#address.running.delete(this);
  }
}

/** Fewer calls; of equals the one that was used longest ago, so that they take turns. */
function isBetter(a: Address, b: Address): boolean {
  const difference = a.running.size - b.running.size;
  return difference === 0 ? a.usedAt < b.usedAt : difference < 0;
}

function sweep(address: Address, nowMs: number): void {
  if (nowMs < address.sweepAtMs) return;
  address.sweepAtMs = nowMs + SWEEP_MS;
  for (const [place, endsAtMs] of address.running) if (endsAtMs <= nowMs) place.leave();
}

function describe(cause: unknown): string {
  return cause instanceof Error ? cause.message : typeof cause === 'string' ? cause : 'not explained';
}
