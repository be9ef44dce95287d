// One row per day, key, model, end user, operation and exit rung: what the requests of that day used.
import { integer, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core';
import { projects } from './projects';

export const usageDays = sqliteTable(
  'usage_days',
  {
    projectId: text('project_id')
      .notNull()
      .references(() => projects.id, { onDelete: 'cascade' }),
    /** When the day began, in UTC. */
    dayMs: integer('day_ms').notNull(),
    /** The key may be gone; what it used is not. */
    keyId: text('key_id').notNull(),
    model: text('model').notNull(),
    /** The caller's own string; empty when the request named nobody. */
    endUser: text('end_user').notNull(),
    operation: text('operation').notNull(),
    exit: text('exit').notNull(),
    requests: integer('requests').notNull(),
    inputTokens: integer('input_tokens').notNull(),
    cachedTokens: integer('cached_tokens').notNull(),
    outputTokens: integer('output_tokens').notNull(),
    /** Millionths of the currency. */
    costMicros: integer('cost_micros').notNull(),
  },
  (table) => [
    uniqueIndex('usage_days_idx').on(
      table.projectId,
      table.dayMs,
      table.keyId,
      table.model,
      table.endUser,
      table.operation,
      table.exit,
    ),
  ],
);
