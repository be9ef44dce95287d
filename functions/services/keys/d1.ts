// Verifies API keys against D1: one hash, and one indexed read unless the key was good a moment ago.
import { eq, or, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { apiKeys, projects } from '../../../db/schema';
import { equalInConstantTime } from '../../lib/hash';
import { hashKey, hasKeyForm } from './format';
import type { Budget, Limits } from '../ledger';
import type { ApiKey, KeyStore } from './interface';
import { SCOPES } from './scopes';
import { ShortMemory } from './short-memory';

/** The backend's bound, in both directions. */
const MAX_PRIORITY = 4;

export class D1KeyStore implements KeyStore {
  readonly #rowsOf;
  readonly #pepper: string;
  readonly #memory = new ShortMemory<Found>();

  constructor(database: D1Database, pepper: string) {
    // Every request comes by here: the query is built once.
    const lookup = sql.placeholder('lookup');
    this.#rowsOf = drizzle(database)
      .select({ key: apiKeys, project: projects })
      .from(apiKeys)
      .innerJoin(projects, eq(projects.id, apiKeys.projectId))
      .where(or(eq(apiKeys.lookup, lookup), eq(apiKeys.previousLookup, lookup)))
      .prepare();
    this.#pepper = pepper;
  }

  async verify(secret: string): Promise<ApiKey | undefined> {
    if (!hasKeyForm(secret)) return undefined;
    const { hash, lookup } = await hashKey(this.#pepper, secret);
    const found = await this.#memory.recall(hash, () => this.#readGood(hash, lookup));
    return found !== undefined && isGood(found.row, hash, Date.now()) ? found.key : undefined;
  }

  /** A bad key is never remembered: it would be refused faster than one that does not exist. */
  async #readGood(hash: string, lookup: string): Promise<Found | undefined> {
    const found = await this.#read(hash, lookup);
    return found !== undefined && isGood(found.row, hash, Date.now()) ? found : undefined;
  }

  async #read(hash: string, lookup: string): Promise<Found | undefined> {
    const rows = await this.#rowsOf.all({ lookup });
    const found = rows.find(({ key }) => hasSecret(key, hash, Date.now()));
    if (found === undefined) return undefined;
    const { key: row, project } = found;
    const key: ApiKey = {
      id: row.id,
      projectId: row.projectId,
      cacheGeneration: project.cacheGeneration,
      // A scope that a later version wrote and this one does not know grants nothing.
      scopes: SCOPES.filter((scope) => row.scopes.includes(scope)),
      // The backend refuses anything beyond; a row that somebody wrote by hand must not make a key useless.
      priority: Math.max(-MAX_PRIORITY, Math.min(MAX_PRIORITY, Math.round(row.priority))),
      limits: limitsOf(row),
      projectBudget: budgetOf(project),
      zeroDataRetention: row.zeroDataRetention,
      allowedModels: row.allowedModels,
      ipAllowList: row.ipAllowList,
      isEndUserRequired: row.isEndUserRequired,
    };
    return { row, key };
  }
}

interface Found {
  row: Row;
  key: ApiKey;
}

type Row = typeof apiKeys.$inferSelect;

function isGood(row: Row, hash: string, nowMs: number): boolean {
  if (!hasSecret(row, hash, nowMs) || row.disabledAtMs !== null) return false;
  return row.expiresAtMs === null || row.expiresAtMs > nowMs;
}

/** The secret of now, or the one before the last rotation in its time. Both are compared, whichever it is. */
function hasSecret(row: Row, hash: string, nowMs: number): boolean {
  const isCurrent = equalInConstantTime(row.hash, hash);
  const isPrevious = equalInConstantTime(row.previousHash ?? '', hash);
  return isCurrent || (isPrevious && row.previousExpiresAtMs !== null && row.previousExpiresAtMs > nowMs);
}

/** Rates are at least one: nothing is ever refilled at a rate of zero, and a key is switched off by `disabled_at_ms`. */
function limitsOf(row: Row): Limits {
  return {
    requestsPerMinute: atLeastOne(row.requestsPerMinute),
    tokensPerMinute: atLeastOne(row.tokensPerMinute),
    concurrency: atLeastOne(row.concurrency),
    budget: budgetOf(row),
  };
}

function budgetOf({
  budgetMicros,
  budgetWindow,
  isBudgetHard,
}: Pick<Row, 'budgetMicros' | 'budgetWindow' | 'isBudgetHard'>): Budget | null {
  if (budgetMicros === null) return null;
  return { micros: budgetMicros, window: budgetWindow === 'day' ? 'day' : 'month', hard: isBudgetHard };
}

function atLeastOne(value: number): number {
  return Math.max(1, Math.round(value));
}
