// Pages of rows in the order of their ids: a page begins behind the last id of the one before, so new rows move nothing.
import { asc, desc, gt, lt } from 'drizzle-orm';
import type { SQLiteColumn } from 'drizzle-orm/sqlite-core';

export interface PageQuery {
  limit: number;
  order: 'asc' | 'desc';
  /** The page behind this id, or the one before that one; never both. */
  after: string | undefined;
  before: string | undefined;
}

export interface Page<T> {
  rows: T[];
  hasMore: boolean;
}

/** Where a page lies: one row more than fits is read, to see that there are more. */
export function keysetOf(id: SQLiteColumn, { limit, order, after, before }: PageQuery) {
  const isAscending = (order === 'asc') === (before === undefined);
  const edge = after ?? before;
  const behind = edge === undefined ? undefined : isAscending ? gt(id, edge) : lt(id, edge);
  return { behind, orderBy: isAscending ? asc(id) : desc(id), limit: limit + 1 };
}

export function toPage<T>(found: T[], { limit, before }: PageQuery): Page<T> {
  const rows = found.slice(0, limit);
  if (before !== undefined) rows.reverse();
  return { rows, hasMore: found.length > limit };
}
