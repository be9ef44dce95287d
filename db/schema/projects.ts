// A project owns keys and everything that is stored through them.
import { sqliteTable, text } from 'drizzle-orm/sqlite-core';
import { budget, createdAtMs } from './columns';

export const projects = sqliteTable('projects', {
  id: text('id').primaryKey(),
  name: text('name').notNull(),
  createdAtMs: createdAtMs(),
  ...budget(),
});
