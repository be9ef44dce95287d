// The arithmetic of the ledger: token buckets, open reservations and spending per window. No platform, no clock of its own.

export const WINDOWS = ['day', 'month'] as const;
export type Window = (typeof WINDOWS)[number];

export interface Budget {
  /** Millionths of the currency. */
  micros: number;
  /** In UTC. */
  window: Window;
  /** A soft budget is shown but refuses nothing. */
  hard: boolean;
}

export interface Limits {
  requestsPerMinute: number;
  tokensPerMinute: number;
  /** Requests that may run at the same time. */
  concurrency: number;
  budget: Budget | null;
}

/** What a request uses: at most, while it runs, or in the end. */
export interface Amount {
  tokens: number;
  micros: number;
}

/** The rungs of the exit ladder. */
export type Exit = 'cache' | 'coalesced' | 'full';

/** What usage says of a request: who asked for what, and the tokens. */
export interface Use {
  projectId: string;
  keyId: string;
  operation: string;
  model: string;
  /** The caller's own name for whoever they ask for; empty for nobody. */
  endUser: string;
  /** The rung of the exit ladder that answered. */
  exit: Exit;
  inputTokens: number;
  /** Those of the input that were found in the cache. */
  cachedTokens: number;
  outputTokens: number;
}

/** A request that has ended with something to write down. */
export interface Closing {
  use: Use;
  /** The day that it is charged to. */
  dayMs: number;
  micros: number;
}

interface Bucket {
  /** In sixty-thousandths, so that a refill of whole milliseconds is a whole number and nothing is rounded. */
  level: number;
  atMs: number;
}

type Starts = Record<Window, number>;

/** What is kept of a key, besides its open reservations. */
export interface Account {
  requests: Bucket;
  tokens: Bucket;
  spent: Record<Window, { startMs: number; micros: number }>;
}

export interface Reservation extends Amount {
  /** Past this the Worker that made it is taken for dead, and it is settled in full. */
  untilMs: number;
  /** The windows that it is charged to, whenever it is settled. */
  starts: Starts;
  /** What is written down when nobody settles it. */
  use: Use | null;
}

export interface Refusal {
  limit: 'budget' | 'concurrency' | 'requests' | 'tokens';
  /** When the same request may pass; null when waiting does not help. */
  retryAfterMs: number | null;
  /** True when nothing but running requests stands in the way. */
  isHeld: boolean;
}

export interface BucketState {
  limit: number;
  remaining: number;
  /** Until the bucket is full again. */
  resetMs: number;
}

export interface LimitState {
  requests: BucketState;
  tokens: BucketState;
  concurrency: { limit: number; running: number };
  budget: (Budget & { settledMicros: number; reservedMicros: number; resetsAtMs: number }) | null;
}

const MINUTE_MS = 60_000;
/** When a running request ends is not known; a client may ask again this soon. */
const HELD_RETRY_MS = 1000;

/** One key's ledger. `reservations` may be a map that writes through to a disk. */
export class Ledger {
  readonly account: Account;
  readonly #reservations: Map<string, Reservation>;
  readonly #onClose: (closing: Closing) => void;

  /** @param onClose hears once of every request that used something */
  constructor(
    account: Account,
    reservations: Map<string, Reservation>,
    onClose: (closing: Closing) => void = () => {},
  ) {
    this.account = account;
    this.#reservations = reservations;
    this.#onClose = onClose;
  }

  /** Takes the most that a request can use, or says what it would exceed and takes nothing. */
  reserve(
    limits: Limits,
    id: string,
    most: Amount,
    untilMs: number,
    nowMs: number,
    use: Use | null = null,
  ): Refusal | null {
    this.#advance(limits, nowMs);
    const refusal = this.#refusal(limits, most, nowMs);
    if (refusal !== null) return refusal;
    const { requests, tokens, spent } = this.account;
    requests.level -= MINUTE_MS;
    tokens.level -= most.tokens * MINUTE_MS;
    const starts = { day: spent.day.startMs, month: spent.month.startMs };
    this.#reservations.set(id, { ...most, untilMs, starts, use });
    return null;
  }

  /** Takes one of the minute's requests for what is answered without any work. */
  count(limits: Limits, nowMs: number): Refusal | null {
    this.#advance(limits, nowMs);
    const { requests } = this.account;
    const refusal = bucketRefusal('requests', requests, limits.requestsPerMinute, 1);
    if (refusal === null) requests.level -= MINUTE_MS;
    return refusal;
  }

  /**
   * Replaces a reservation by what was used; without effect when it is settled already.
   * @param use null when the request failed and nothing is written down
   */
  settle(limits: Limits, id: string, used: Amount, nowMs: number, use: Use | null = null): void {
    this.#advance(limits, nowMs);
    const reservation = this.#reservations.get(id);
    if (reservation === undefined) return;
    const { tokens } = this.account;
    const level = tokens.level + (reservation.tokens - used.tokens) * MINUTE_MS;
    tokens.level = Math.max(0, Math.min(limits.tokensPerMinute * MINUTE_MS, level));
    // A request costs no more than was reserved for it, or the budget would be exceeded after the fact.
    this.#close(id, reservation, Math.min(used.micros, reservation.micros), use);
  }

  state(limits: Limits, nowMs: number): LimitState {
    this.#advance(limits, nowMs);
    const { budget } = limits;
    const { requests, tokens, spent } = this.account;
    return {
      requests: bucketState(requests, limits.requestsPerMinute),
      tokens: bucketState(tokens, limits.tokensPerMinute),
      concurrency: { limit: limits.concurrency, running: this.#reservations.size },
      budget: budget && {
        ...budget,
        settledMicros: spent[budget.window].micros,
        reservedMicros: this.#reservedMicros(budget.window),
        resetsAtMs: windowEnd(budget.window, spent[budget.window].startMs),
      },
    };
  }

  #refusal(limits: Limits, most: Amount, nowMs: number): Refusal | null {
    const { budget } = limits;
    if (budget?.hard) {
      const { startMs, micros: settled } = this.account.spent[budget.window];
      if (settled + this.#reservedMicros(budget.window) + most.micros > budget.micros) {
        const isHeld = settled + most.micros <= budget.micros;
        const untilNext = most.micros <= budget.micros ? windowEnd(budget.window, startMs) - nowMs : null;
        return { limit: 'budget', retryAfterMs: isHeld ? HELD_RETRY_MS : untilNext, isHeld };
      }
    }
    if (this.#reservations.size >= limits.concurrency) {
      return { limit: 'concurrency', retryAfterMs: HELD_RETRY_MS, isHeld: true };
    }
    return (
      bucketRefusal('requests', this.account.requests, limits.requestsPerMinute, 1) ??
      bucketRefusal('tokens', this.account.tokens, limits.tokensPerMinute, most.tokens)
    );
  }

  /** Brings everything to this moment: refills, begins new windows, settles what nobody settled. */
  #advance(limits: Limits, nowMs: number): void {
    refill(this.account.requests, limits.requestsPerMinute, nowMs);
    refill(this.account.tokens, limits.tokensPerMinute, nowMs);
    for (const window of WINDOWS) {
      const startMs = windowStart(window, nowMs);
      // Never back: a clock that jumps must not open a window that was spent already.
      if (startMs > this.account.spent[window].startMs) this.account.spent[window] = { startMs, micros: 0 };
    }
    for (const [id, reservation] of this.#reservations) {
      if (reservation.untilMs <= nowMs) this.#close(id, reservation, reservation.micros, reservation.use);
    }
  }

  #close(id: string, { starts }: Reservation, micros: number, use: Use | null): void {
    this.#reservations.delete(id);
    if (use !== null) this.#onClose({ use, dayMs: starts.day, micros });
    for (const window of WINDOWS) {
      const spent = this.account.spent[window];
      if (starts[window] === spent.startMs) spent.micros += micros;
    }
  }

  #reservedMicros(window: Window): number {
    const { startMs } = this.account.spent[window];
    let sum = 0;
    for (const { starts, micros } of this.#reservations.values()) {
      if (starts[window] === startMs) sum += micros;
    }
    return sum;
  }
}

/** The account of a key that was never used. */
export function newAccount(limits: Limits, nowMs: number): Account {
  return {
    requests: { level: limits.requestsPerMinute * MINUTE_MS, atMs: nowMs },
    tokens: { level: limits.tokensPerMinute * MINUTE_MS, atMs: nowMs },
    spent: {
      day: { startMs: windowStart('day', nowMs), micros: 0 },
      month: { startMs: windowStart('month', nowMs), micros: 0 },
    },
  };
}

function refill(bucket: Bucket, perMinute: number, nowMs: number): void {
  const elapsedMs = Math.max(0, nowMs - bucket.atMs);
  bucket.level = Math.min(perMinute * MINUTE_MS, bucket.level + elapsedMs * perMinute);
  // Also when the clock went back: else nothing would be refilled until it has caught up.
  bucket.atMs = nowMs;
}

function bucketRefusal(
  limit: Refusal['limit'],
  { level }: Bucket,
  perMinute: number,
  need: number,
): Refusal | null {
  const missing = need * MINUTE_MS - level;
  if (missing <= 0) return null;
  const waitMs = Math.ceil(missing / perMinute);
  return { limit, retryAfterMs: need <= perMinute ? waitMs : null, isHeld: false };
}

function bucketState({ level }: Bucket, perMinute: number): BucketState {
  const resetMs = Math.ceil((perMinute * MINUTE_MS - level) / perMinute);
  return { limit: perMinute, remaining: Math.floor(level / MINUTE_MS), resetMs };
}

function windowStart(window: Window, nowMs: number): number {
  const date = new Date(nowMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), window === 'day' ? date.getUTCDate() : 1);
}

function windowEnd(window: Window, startMs: number): number {
  const date = new Date(startMs);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return window === 'day' ? Date.UTC(year, month, date.getUTCDate() + 1) : Date.UTC(year, month + 1);
}
