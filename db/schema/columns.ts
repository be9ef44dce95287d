// Columns that several tables share.
import { integer, text } from 'drizzle-orm/sqlite-core';

/** When the row was written, in Unix milliseconds. */
export const createdAtMs = () => integer('created_at_ms').notNull();

/** What a key, or all keys of a project together, may spend. */
export const budget = () => ({
  /** Millionths of the currency; null for no budget. */
  budgetMicros: integer('budget_micros'),
  budgetWindow: text('budget_window', { enum: ['day', 'month'] })
    .notNull()
    .default('month'),
  /** A soft budget is shown but refuses nothing. */
  isBudgetHard: integer('is_budget_hard', { mode: 'boolean' }).notNull().default(true),
});
