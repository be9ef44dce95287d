// What the rest of the edge needs to know about API keys.
import type { Budget, Limits } from '../ledger';
import type { Scope } from './scopes';

/** A key that may be used now. */
export interface ApiKey {
  id: string;
  projectId: string;
  /** Of the project: counts the purges of its cache. */
  cacheGeneration: number;
  scopes: readonly Scope[];
  /** A whole number from -4 to 4: each step doubles the share that its requests have where requests wait. */
  priority: number;
  limits: Limits;
  /** What all keys of its project may spend together; null for any amount. */
  projectBudget: Budget | null;
  /** Nothing that its requests say or are answered is kept. */
  zeroDataRetention: boolean;
  /** Models that its requests may name; null for all. */
  allowedModels: readonly string[] | null;
  /** Addresses and CIDR blocks that it may be used from; null for everywhere. */
  ipAllowList: readonly string[] | null;
  /** Its metered requests must name their `user`. */
  isEndUserRequired: boolean;
}

export interface KeyStore {
  /** The key behind a secret; undefined when it is unknown, malformed, expired or disabled. */
  verify(secret: string): Promise<ApiKey | undefined>;
}
