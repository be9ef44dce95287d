// The arithmetic of a key's ledger: token buckets, running requests, and its spending. No platform, no clock of its own.
import {
  HELD_RETRY_MS,
  newSpent,
  Spending,
  type Alert,
  type Budget,
  type BudgetRefusal,
  type BudgetState,
  type Hold,
  type Spent,
} from './spending';

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
export type Exit = 'cache' | 'coalesced' | 'full' | 'upstream';

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

/** What is kept of a key, besides its open reservations. */
export interface Account {
  requests: Bucket;
  tokens: Bucket;
  spent: Spent;
}

export interface Reservation extends Amount, Hold {
  /** What is written down when nobody settles it. */
  use: Use | null;
}

export interface Refusal extends BudgetRefusal {
  limit: 'budget' | 'project_budget' | 'concurrency' | 'requests' | 'tokens';
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
  budget: BudgetState | null;
}

const MINUTE_MS = 60_000;

/** One key's ledger. `reservations` may be a map that writes through to a disk. */
export class Ledger {
  readonly account: Account;
  readonly #reservations: Map<string, Reservation>;
  readonly #spending: Spending<Reservation>;
  readonly #onClose: (closing: Closing) => void;

  /** @param onClose hears once of every request that used something */
  constructor(
    account: Account,
    reservations: Map<string, Reservation>,
    onClose: (closing: Closing) => void = () => {},
    onAlert: (alert: Alert) => void = () => {},
  ) {
    this.account = account;
    this.#reservations = reservations;
    this.#spending = new Spending(account.spent, reservations, onAlert);
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
    const { requests, tokens } = this.account;
    requests.level -= MINUTE_MS;
    tokens.level -= most.tokens * MINUTE_MS;
    this.#spending.open(id, { ...most, untilMs, starts: this.#spending.starts, use });
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
    const closed = this.#spending.close(limits.budget, id, used.micros);
    if (closed === undefined) return;
    const { tokens } = this.account;
    const level = tokens.level + (closed.hold.tokens - used.tokens) * MINUTE_MS;
    tokens.level = Math.max(0, Math.min(limits.tokensPerMinute * MINUTE_MS, level));
    this.#writeDown(closed.hold, closed.micros, use);
  }

  state(limits: Limits, nowMs: number): LimitState {
    this.#advance(limits, nowMs);
    const { requests, tokens } = this.account;
    return {
      requests: bucketState(requests, limits.requestsPerMinute),
      tokens: bucketState(tokens, limits.tokensPerMinute),
      concurrency: { limit: limits.concurrency, running: this.#reservations.size },
      budget: limits.budget && this.#spending.state(limits.budget),
    };
  }

  #refusal(limits: Limits, most: Amount, nowMs: number): Refusal | null {
    const overBudget = this.#spending.refusal(limits.budget, most.micros, nowMs);
    if (overBudget !== null) return { limit: 'budget', ...overBudget };
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
    for (const abandoned of this.#spending.advance(limits.budget, nowMs)) {
      this.#writeDown(abandoned, abandoned.micros, abandoned.use);
    }
  }

  #writeDown({ starts }: Reservation, micros: number, use: Use | null): void {
    if (use !== null) this.#onClose({ use, dayMs: starts.day, micros });
  }
}

/** The account of a key that was never used. */
export function newAccount(limits: Limits, nowMs: number): Account {
  return {
    requests: { level: limits.requestsPerMinute * MINUTE_MS, atMs: nowMs },
    tokens: { level: limits.tokensPerMinute * MINUTE_MS, atMs: nowMs },
    spent: newSpent(nowMs),
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
