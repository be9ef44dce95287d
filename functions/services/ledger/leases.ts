// The leases that one Worker holds, by key, and how much it asks for: twice what the last one was used for, or what it lacked.
import type { LimitState } from './accounting';
import type { Claim, Holder } from './interface';
import type { Lease, Share } from './lease';

/** No request passes by a lease that is older. A ledger far from a limit is asked about as often by each Worker. */
export const LEASE_MS = 500;
/** A lease has room for so many requests like the one that asks, at least. */
const FIRST_REQUESTS = 8;
const MAX_KEYS = 1000;
/** Requests whose lease is remembered; the ledger knows those that are forgotten, once their lease is given back. */
const MAX_CLAIMS = 10_000;

interface Entry {
  /** The newest. */
  lease: Lease | null;
  /** Those that the ledger has not heard the end of. */
  open: Set<Lease>;
  askedAtMs: number;
  /** Somebody asks for a lease already, since then. */
  wishedAtMs: number;
  /** The ledger lent nothing. */
  deniedAtMs: number;
  /** Requests that found no room and somebody asking, since the last wish. */
  numWaiting: number;
}

export class Leases {
  readonly #entries = new Map<string, Entry>();
  readonly #leaseOf = new Map<string, Lease>();

  /** Lets a request pass by the key's lease: the limits after it, or null when the ledger must be asked. */
  take({ id, limits }: Holder, claim: Claim, nowMs: number): LimitState | null {
    const entry = this.#entries.get(id);
    const lease = entry?.lease ?? null;
    if (entry === undefined || lease === null) return null;
    // One request asks for the next lease while the others go on passing by this one.
    if (lease.isWaning(nowMs) && !isWithin(LEASE_MS, entry.wishedAtMs, nowMs)) return null;
    return lease.take(limits, claim, nowMs) ? this.#began(lease, claim.id, nowMs) : null;
  }

  /** True while somebody asks for a lease that other requests had better wait for. */
  isComing(keyId: string, nowMs: number): boolean {
    const entry = this.#entries.get(keyId);
    if (entry === undefined || isWithin(LEASE_MS, entry.deniedAtMs, nowMs)) return false;
    return isWithin(LEASE_MS, entry.wishedAtMs, nowMs);
  }

  /** Said once by each request that waits for it. */
  wait(keyId: string): void {
    this.#entry(keyId).numWaiting += 1;
  }

  /** The request whose reservation is part of a new lease. */
  begin(lease: Lease, claim: Claim, nowMs: number): LimitState {
    lease.begin(claim, nowMs);
    return this.#began(lease, claim.id, nowMs);
  }

  /** The lease that a request began under, which is forgotten with the question. */
  leaseOf(claimId: string): Lease | undefined {
    const lease = this.#leaseOf.get(claimId);
    this.#leaseOf.delete(claimId);
    return lease;
  }

  /** The limits of a key whose lease has not ended. */
  glance(keyId: string, nowMs: number): LimitState | null {
    const lease = this.#entries.get(keyId)?.lease ?? null;
    return lease === null || lease.isOver(nowMs) ? null : lease.state(nowMs);
  }

  openOf(keyId: string): Lease[] {
    return [...(this.#entries.get(keyId)?.open ?? [])];
  }

  /** What to ask for beside a request's own reservation; null when the key is hardly used, or somebody asks already. */
  wish(keyId: string, { most }: Claim, nowMs: number): Share | null {
    const entry = this.#entry(keyId);
    const hasAskedBefore = isWithin(LEASE_MS, entry.askedAtMs, nowMs);
    entry.askedAtMs = nowMs;
    if (isWithin(LEASE_MS, entry.wishedAtMs, nowMs)) return null;
    const { numWaiting } = entry;
    entry.numWaiting = 0;
    const last = entry.lease;
    const wasUsed = last !== null && last.peak.requests > 1 && isWithin(2 * LEASE_MS, last.fromMs, nowMs);
    if (!wasUsed && !hasAskedBefore) return null;
    entry.wishedAtMs = nowMs;
    const least = times({ ...most, requests: 1, slots: 1 }, Math.max(FIRST_REQUESTS, numWaiting));
    return wasUsed ? larger(least, times(last.peak, 2)) : least;
  }

  /** The answer to a wish. */
  open(keyId: string, lease: Lease | null, nowMs: number): void {
    const entry = this.#entry(keyId);
    entry.wishedAtMs = -Infinity;
    if (lease === null) {
      entry.deniedAtMs = nowMs;
      return;
    }
    entry.lease = lease;
    entry.open.add(lease);
  }

  /** It is given back. */
  close(keyId: string, lease: Lease): void {
    this.#entries.get(keyId)?.open.delete(lease);
  }

  forget(keyId: string): void {
    this.#entries.delete(keyId);
  }

  #began(lease: Lease, claimId: string, nowMs: number): LimitState {
    if (this.#leaseOf.size >= MAX_CLAIMS) this.#leaseOf.delete(firstKeyOf(this.#leaseOf));
    this.#leaseOf.set(claimId, lease);
    return lease.state(nowMs);
  }

  #entry(keyId: string): Entry {
    const known = this.#entries.get(keyId);
    if (known !== undefined) return known;
    if (this.#entries.size >= MAX_KEYS) this.#sweep();
    const entry: Entry = {
      lease: null,
      open: new Set(),
      askedAtMs: -Infinity,
      wishedAtMs: -Infinity,
      deniedAtMs: -Infinity,
      numWaiting: 0,
    };
    this.#entries.set(keyId, entry);
    return entry;
  }

  /** What has an open lease stays: its end is still to be told. */
  #sweep(): void {
    for (const [keyId, { open }] of this.#entries) if (open.size === 0) this.#entries.delete(keyId);
  }
}

function isWithin(ms: number, thenMs: number, nowMs: number): boolean {
  return nowMs >= thenMs && nowMs - thenMs < ms;
}

function times(share: Share, factor: number): Share {
  return {
    requests: share.requests * factor,
    slots: share.slots * factor,
    tokens: share.tokens * factor,
    micros: share.micros * factor,
  };
}

function larger(one: Share, other: Share): Share {
  return {
    requests: Math.max(one.requests, other.requests),
    slots: Math.max(one.slots, other.slots),
    tokens: Math.max(one.tokens, other.tokens),
    micros: Math.max(one.micros, other.micros),
  };
}

function firstKeyOf(map: Map<string, unknown>): string {
  return map.keys().next().value ?? '';
}
