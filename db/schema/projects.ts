// A project owns keys and everything that is stored through them.
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import { budget, createdAtMs } from './columns';

export const projects = sqliteTable('projects', {
  id: text('id').primaryKey(),
  name: text('name').notNull(),
  createdAtMs: createdAtMs(),
  ...budget(),
  /** Part of the key of every cached answer: one more, and none of the earlier ones is found. */
  cacheGeneration: integer('cache_generation').notNull().default(0),
});
