// The arithmetic of a key's ledger: token buckets, running requests, and its spending. No platform, no clock of its own.
import {
  bucketState,
  fullBucket,
  giveBack,
  refill,
  take,
  waitMsFor,
  type Bucket,
  type BucketState,
} from './bucket';
import { OpenHolds, type Hold } from './holds';
import type { Returned, Share } from './lease';
import {
  HELD_RETRY_MS,
  newSpent,
  Spending,
  type Alert,
  type Budget,
  type BudgetRefusal,
  type BudgetState,
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
export type Exit = 'cache' | 'coalesced' | 'shallow' | 'full' | 'upstream';

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

/** Requests that have ended with something to write down. */
export interface Closing {
  /** How many, of which `use` says what they used together. */
  requests: number;
  use: Use;
  /** The day that it is charged to. */
  dayMs: number;
  micros: number;
}

/** What is kept of a key, besides its open reservations. */
export interface Account {
  requests: Bucket;
  tokens: Bucket;
  spent: Spent;
  /** That of the last call, for what ends without one; an account of earlier versions has none. */
  budget?: Budget | null;
}

export interface Reservation extends Amount, Hold {
  /** What is written down when nobody settles it. */
  use: Use | null;
  lent?: Pick<Share, 'requests' | 'slots'>;
}

export interface Refusal extends BudgetRefusal {
  limit: 'budget' | 'project_budget' | 'concurrency' | 'requests' | 'tokens';
}

export interface LimitState {
  requests: BucketState;
  tokens: BucketState;
  concurrency: { limit: number; running: number };
  budget: BudgetState | null;
}

/** A share is at most this part of what is left. */
const LENT_PART = 8;
/** Less is not worth a lease. */
const MIN_LENT_REQUESTS = 4;

/** One key's ledger. `reservations` may be a map that writes through to a disk. */
export class Ledger {
  readonly account: Account;
  readonly #reservations: OpenHolds<Reservation>;
  readonly #spending: Spending<Reservation>;
  readonly #onClose: (closing: Closing) => void;

  /** @param onClose hears once of every request that used something; of those under a lease together */
  constructor(
    account: Account,
    reservations: Map<string, Reservation>,
    onClose: (closing: Closing) => void = () => {},
    onAlert: (alert: Alert, hold: Reservation) => void = () => {},
  ) {
    this.account = account;
    this.#reservations = new OpenHolds(reservations);
    this.#spending = new Spending(account.spent, this.#reservations, onAlert);
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
    take(this.account.requests, 1);
    take(this.account.tokens, most.tokens);
    this.#spending.open(id, { ...most, untilMs, starts: this.#spending.starts, use });
    return null;
  }

  /**
   * Lends a share for a request that has its reservation and others after it; null near a limit, where every request asks.
   * @param id the lease's, instead of `first`'s
   * @param wish what is lent at most, besides what is reserved for the first
   */
  lend(limits: Limits, id: string, first: string, wish: Share, untilMs: number, nowMs: number): Share | null {
    const more = this.#shareOf(limits, wish, nowMs);
    if (more.requests < MIN_LENT_REQUESTS || more.slots < MIN_LENT_REQUESTS) return null;
    const own = this.#reservations.get(first);
    // Nor one under which no second request like the first could begin.
    if (own === undefined || more.tokens < own.tokens || more.micros < own.micros) return null;
    this.#spending.close(limits.budget, first, 0);
    take(this.account.requests, more.requests);
    take(this.account.tokens, more.tokens);
    const [requests, slots] = [more.requests + 1, more.slots + 1];
    const [tokens, micros] = [more.tokens + own.tokens, more.micros + own.micros];
    // Of a Worker that never comes back nobody knows what it used, so it is all of it.
    const use = own.use && { ...own.use, inputTokens: tokens, cachedTokens: 0, outputTokens: 0 };
    this.#spending.open(id, { ...own, tokens, micros, untilMs, use, lent: { requests, slots } });
    return { requests, slots, tokens, micros };
  }

  /** Replaces what was lent by what was used and by reservations of what still runs; without effect when it is settled already. */
  takeBack(limits: Limits, { id, requests, ended, running }: Returned, nowMs: number): void {
    this.#advance(limits, nowMs);
    const lent = this.#reservations.get(id)?.lent;
    const used = sumOf(ended.map((request) => request.used));
    const closed = this.#spending.close(limits.budget, id, used.micros);
    if (lent === undefined || closed === undefined) return;
    const { hold } = closed;
    const unused = hold.tokens - used.tokens - sumOf(running.map(({ most }) => most)).tokens;
    giveBack(this.account.tokens, limits.tokensPerMinute, unused);
    giveBack(this.account.requests, limits.requestsPerMinute, lent.requests - requests);
    for (const { id: own, most, use, lifeMs } of running) {
      this.#spending.open(own, { ...most, untilMs: nowMs + lifeMs, starts: hold.starts, use });
    }
    for (const { requests: count, used: own, use } of ended) this.#writeDown(hold, own.micros, use, count);
  }

  /** True while a Worker has a share that may come back. */
  get isLending(): boolean {
    return this.#reservations.isLending;
  }

  /** Takes one of the minute's requests for what is answered without any work. */
  count(limits: Limits, nowMs: number): Refusal | null {
    this.#advance(limits, nowMs);
    const { requests } = this.account;
    const refusal = bucketRefusal('requests', requests, limits.requestsPerMinute, 1);
    if (refusal === null) take(requests, 1);
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
    giveBack(this.account.tokens, limits.tokensPerMinute, closed.hold.tokens - used.tokens);
    this.#writeDown(closed.hold, closed.micros, use);
  }

  state(limits: Limits, nowMs: number): LimitState {
    this.#advance(limits, nowMs);
    const { requests, tokens } = this.account;
    return {
      requests: bucketState(requests, limits.requestsPerMinute),
      tokens: bucketState(tokens, limits.tokensPerMinute),
      concurrency: { limit: limits.concurrency, running: this.#reservations.running },
      budget: limits.budget && this.#spending.state(limits.budget),
    };
  }

  /** Settles what nobody settled, when no call says the limits. */
  settleEnded(nowMs: number): void {
    for (const abandoned of this.#spending.advance(this.account.budget ?? null, nowMs)) {
      this.#writeDown(abandoned, abandoned.micros, abandoned.use);
    }
  }

  /** When there may be something for that, after what has ended by now was settled; Infinity when nothing is open. */
  nextEndMs(nowMs: number): number {
    return this.#reservations.nextEndMs(nowMs);
  }

  /** As much of a wish as leaves far more than it takes. */
  #shareOf(limits: Limits, wish: Share, nowMs: number): Share {
    const { requests, tokens, concurrency, budget } = this.state(limits, nowMs);
    const left = budget?.hard ? budget.micros - budget.settledMicros - budget.reservedMicros : Infinity;
    return {
      requests: partOf(wish.requests, requests.remaining),
      slots: partOf(wish.slots, concurrency.limit - concurrency.running),
      tokens: partOf(wish.tokens, tokens.remaining),
      micros: partOf(wish.micros, left),
    };
  }

  #refusal(limits: Limits, most: Amount, nowMs: number): Refusal | null {
    const overBudget = this.#spending.refusal(limits.budget, most.micros, nowMs);
    if (overBudget !== null) return { limit: 'budget', ...overBudget };
    if (this.#reservations.running >= limits.concurrency) {
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
    this.account.budget = limits.budget;
    this.settleEnded(nowMs);
  }

  #writeDown({ starts }: Reservation, micros: number, use: Use | null, requests = 1): void {
    if (use !== null) this.#onClose({ requests, use, dayMs: starts.day, micros });
  }
}

/** The account of a key that was never used. */
export function newAccount(limits: Limits, nowMs: number): Account {
  return {
    requests: fullBucket(limits.requestsPerMinute, nowMs),
    tokens: fullBucket(limits.tokensPerMinute, nowMs),
    spent: newSpent(nowMs),
  };
}

function partOf(wish: number, left: number): number {
  return Math.max(0, Math.min(wish, Math.floor(left / LENT_PART)));
}

function sumOf(amounts: readonly Amount[]): Amount {
  const sum = { tokens: 0, micros: 0 };
  for (const { tokens, micros } of amounts) {
    sum.tokens += tokens;
    sum.micros += micros;
  }
  return sum;
}

function bucketRefusal(
  limit: Refusal['limit'],
  bucket: Bucket,
  perMinute: number,
  need: number,
): Refusal | null {
  const retryAfterMs = waitMsFor(bucket, perMinute, need);
  return retryAfterMs === 0 ? null : { limit, retryAfterMs, isHeld: false };
}
