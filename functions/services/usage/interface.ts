// What the rest of the edge asks about usage: totals of days, added up by what the caller wants to tell apart.

export const DAY_MS = 24 * 60 * 60 * 1000;

/** What one API key has used on one day for one model, end user, operation and exit rung. */
export interface UsageRow {
  projectId: string;
  dayMs: number;
  keyId: string;
  model: string;
  endUser: string;
  operation: string;
  exit: string;
  requests: number;
  inputTokens: number;
  cachedTokens: number;
  outputTokens: number;
  costMicros: number;
}

export type Dimension = 'keyId' | 'model' | 'endUser' | 'operation' | 'exit';

/** A dimension that was not asked for is null. */
export type UsageSum = Omit<UsageRow, 'projectId' | Dimension> & Record<Dimension, string | null>;

export interface UsageQuery {
  /** Days from this one, at the start of which… */
  fromMs: number;
  /** …to before this one. */
  toMs: number;
  dimensions: readonly Dimension[];
  /** Most sums to give; the caller asks for one more than they can use, to see that there are more. */
  limit: number;
}

export interface UsageStore {
  /** In order of days. */
  sum(projectId: string, query: UsageQuery): Promise<UsageSum[]>;
}
