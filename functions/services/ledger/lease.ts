// A share of a key's limits that its ledger lends to one Worker for a moment: requests pass by it without a call. No platform, no clock of its own.
import type { Amount, Limits, LimitState, Use } from './accounting';
import type { BucketState } from './bucket';
import type { Claim } from './interface';
import type { Budget } from './spending';

/** What is lent, or asked for. */
export interface Share extends Amount {
  requests: number;
  /** Requests that may run at the same time. */
  slots: number;
}

/** What the ledger says of a lease. */
export interface Grant {
  id: string;
  share: Share;
  /** The Worker lets no request pass by it after this span, which begins before the Worker asks. */
  lifeMs: number;
}

/** Requests that have ended and that usage does not tell apart: what they used together. */
export interface Ended {
  requests: number;
  used: Amount;
  /** Null of those that failed, of which nothing is written down. */
  use: Use | null;
}

/** What a Worker says when it gives a lease back: the rest of the share is free again. */
export interface Returned {
  id: string;
  /** How many requests began under it. */
  requests: number;
  ended: Ended[];
  /** From now on each of them has a reservation of its own, for what is left of its life. */
  running: Claim[];
}

/** Of its life, after which another is asked for; and of its share, below which. */
const WANING_PART = 0.6;
const RESERVE_PART = 0.25;

/** The Worker's side of a lease. */
export class Lease {
  readonly id: string;
  readonly limits: Limits;
  readonly #share: Share;
  readonly #free: Share;
  /** The most that was in use at once, and what was used up. */
  readonly peak: Share = { requests: 0, slots: 0, tokens: 0, micros: 0 };
  readonly #state: LimitState;
  readonly fromMs: number;
  readonly #lifeMs: number;
  readonly #running = new Map<string, Claim & { fromMs: number }>();
  /** By what usage tells apart. */
  readonly #ended = new Map<string, Ended>();
  #endedMicros = 0;
  /** `open` until it is given back; `arrived` when the ledger has heard of it. */
  #phase: 'open' | 'returned' | 'arrived' | 'lost' = 'open';

  /**
   * @param state what the ledger said when it had lent the share
   * @param fromMs before the ledger was asked
   */
  constructor({ id, share, lifeMs }: Grant, limits: Limits, state: LimitState, fromMs: number) {
    this.id = id;
    this.limits = limits;
    this.#share = share;
    this.#free = { ...share };
    this.#state = state;
    this.fromMs = fromMs;
    this.#lifeMs = lifeMs;
  }

  get phase() {
    return this.#phase;
  }

  /** True when no request may begin under it any more. A clock that went back ends it, too. */
  isOver(nowMs: number): boolean {
    return this.#phase !== 'open' || nowMs < this.fromMs || nowMs >= this.fromMs + this.#lifeMs;
  }

  /** True when its end is near, or little of it is left: it is time to ask for another. */
  isWaning(nowMs: number): boolean {
    if (nowMs >= this.fromMs + WANING_PART * this.#lifeMs) return true;
    const [free, share] = [this.#free, this.#share];
    return (['requests', 'tokens', 'micros'] as const).some(
      (name) => free[name] < share[name] * RESERVE_PART,
    );
  }

  /** Lets a request pass if the share has room for the most that it can use. */
  take(limits: Limits, claim: Claim, nowMs: number): boolean {
    const { most } = claim;
    const free = this.#free;
    if (this.isOver(nowMs) || !isSame(this.limits, limits)) return false;
    if (free.requests < 1 || free.slots < 1 || free.tokens < most.tokens || free.micros < most.micros) {
      return false;
    }
    this.begin(claim, nowMs);
    return true;
  }

  /** Takes what a request needs, for which there is room. */
  begin(claim: Claim, nowMs: number): void {
    this.#add(-1, -1, -claim.most.tokens, -claim.most.micros);
    this.#running.set(claim.id, { ...claim, fromMs: nowMs });
  }

  /** Remembers what a request used until the lease is given back. False when that has happened, or it did not begin here. */
  settle(id: string, used: Amount, use: Use | null): boolean {
    const claim = this.#running.get(id);
    if (claim === undefined || this.#phase !== 'open') return false;
    this.#running.delete(id);
    const { most } = claim;
    // Never more than was reserved, as with the ledger itself; tokens beyond that come off the minute, and not off this share.
    const micros = Math.min(used.micros, most.micros);
    this.#add(0, 1, Math.max(0, most.tokens - used.tokens), most.micros - micros);
    this.#endedMicros += micros;
    this.#addEnded({ tokens: used.tokens, micros }, use);
    return true;
  }

  /** Sums, since hundreds of requests may end before the lease does. */
  #addEnded(used: Amount, use: Use | null): void {
    const name = use === null ? '' : JSON.stringify([use.operation, use.model, use.endUser, use.exit]);
    const ended = this.#ended.get(name);
    if (ended === undefined) {
      this.#ended.set(name, { requests: 1, used, use: use && { ...use } });
      return;
    }
    ended.requests += 1;
    ended.used.tokens += used.tokens;
    ended.used.micros += used.micros;
    if (ended.use === null || use === null) return;
    ended.use.inputTokens += use.inputTokens;
    ended.use.cachedTokens += use.cachedTokens;
    ended.use.outputTokens += use.outputTokens;
  }

  /** Ends it. What still runs is settled with the ledger, once `arrived` was said. */
  giveBack(nowMs: number): Returned {
    this.#phase = 'returned';
    const running = [...this.#running.values()].map(({ id, most, use, lifeMs, fromMs }) => ({
      id,
      most,
      use,
      lifeMs: Math.max(0, lifeMs - Math.max(0, nowMs - fromMs)),
    }));
    this.#running.clear();
    const requests = this.#share.requests - this.#free.requests;
    return { id: this.id, requests, ended: [...this.#ended.values()], running };
  }

  /** Whether the ledger has heard of the end. If not, it charges the whole share in time. */
  conclude(hasArrived: boolean): void {
    this.#phase = hasArrived ? 'arrived' : 'lost';
  }

  /** The key's limits as the ledger would tell them if it knew what has happened here. */
  state(nowMs: number): LimitState {
    const { requests, tokens, concurrency, budget } = this.#state;
    const free = this.#free;
    const elapsedMs = Math.max(0, nowMs - this.fromMs);
    return {
      requests: withMore(requests, free.requests, elapsedMs),
      tokens: withMore(tokens, free.tokens, elapsedMs),
      concurrency: { ...concurrency, running: concurrency.running - free.slots },
      budget: budget && {
        ...budget,
        settledMicros: budget.settledMicros + this.#endedMicros,
        reservedMicros: budget.reservedMicros - free.micros - this.#endedMicros,
      },
    };
  }

  #add(requests: number, slots: number, tokens: number, micros: number): void {
    const free = this.#free;
    free.requests += requests;
    free.slots += slots;
    free.tokens += tokens;
    free.micros += micros;
    for (const name of ['requests', 'slots', 'tokens', 'micros'] as const) {
      this.peak[name] = Math.max(this.peak[name], this.#share[name] - free[name]);
    }
  }
}

function withMore(bucket: BucketState, more: number, elapsedMs: number): BucketState {
  const { limit } = bucket;
  const level = Math.min(limit, bucket.remaining + more + (elapsedMs * limit) / 60_000);
  return { limit, remaining: Math.floor(level), resetMs: Math.ceil(((limit - level) * 60_000) / limit) };
}

/** Limits that were changed meanwhile hold from the next request on. */
function isSame(one: Limits, other: Limits): boolean {
  if (one === other) return true;
  return (
    one.requestsPerMinute === other.requestsPerMinute &&
    one.tokensPerMinute === other.tokensPerMinute &&
    one.concurrency === other.concurrency &&
    isSameBudget(one.budget, other.budget)
  );
}

function isSameBudget(one: Budget | null, other: Budget | null): boolean {
  return one?.micros === other?.micros && one?.window === other?.window && one?.hard === other?.hard;
}
