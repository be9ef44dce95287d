// Totals of days in D1: written whole by each key's Durable Object, and added up for whoever asks.
import { and, asc, eq, gte, inArray, lt, sql, sum } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { projects, usageDays } from '../../../db/schema';
import type { Dimension, UsageQuery, UsageRow, UsageStore, UsageSum } from './interface';

const IDENTITY = [
  usageDays.projectId,
  usageDays.dayMs,
  usageDays.keyId,
  usageDays.model,
  usageDays.endUser,
  usageDays.operation,
  usageDays.exit,
];

const total = (column: Parameters<typeof sum>[0]) => sum(column).mapWith(Number);

export class D1UsageStore implements UsageStore {
  readonly #db;

  constructor(database: D1Database) {
    this.#db = drizzle(database);
  }

  /**
   * Replaces totals by later ones of the same day.
   * @returns false when their project is gone: it has taken its usage with it
   */
  async write(rows: readonly UsageRow[]): Promise<boolean> {
    const [first, ...others] = rows.map((row) => {
      const { requests, inputTokens, cachedTokens, outputTokens, costMicros } = row;
      const set = { requests, inputTokens, cachedTokens, outputTokens, costMicros };
      return this.#db.insert(usageDays).values(row).onConflictDoUpdate({ target: IDENTITY, set });
    });
    if (first === undefined) return true;
    try {
      await this.#db.batch([first, ...others]);
      return true;
    } catch (error) {
      if (await this.#hasProjectOf(rows)) throw error;
      return false;
    }
  }

  async #hasProjectOf(rows: readonly UsageRow[]): Promise<boolean> {
    const ids = [...new Set(rows.map(({ projectId }) => projectId))];
    return (await this.#db.$count(projects, inArray(projects.id, ids))) > 0;
  }

  async sum(projectId: string, { fromMs, toMs, dimensions, limit }: UsageQuery): Promise<UsageSum[]> {
    const { dayMs } = usageDays;
    const groups = dimensions.map((dimension) => usageDays[dimension]);
    const part = (dimension: Dimension) =>
      dimensions.includes(dimension) ? sql<string>`${usageDays[dimension]}` : sql<null>`NULL`;
    return this.#db
      .select({
        dayMs,
        keyId: part('keyId'),
        model: part('model'),
        endUser: part('endUser'),
        operation: part('operation'),
        exit: part('exit'),
        requests: total(usageDays.requests),
        inputTokens: total(usageDays.inputTokens),
        cachedTokens: total(usageDays.cachedTokens),
        outputTokens: total(usageDays.outputTokens),
        costMicros: total(usageDays.costMicros),
      })
      .from(usageDays)
      .where(and(eq(usageDays.projectId, projectId), gte(dayMs, fromMs), lt(dayMs, toMs)))
      .groupBy(dayMs, ...groups)
      .orderBy(asc(dayMs), ...groups)
      .limit(limit);
  }
}
