// One row per stored chat completion; the body itself lies in R2 under `objectKey`.
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import { createdAtMs } from './columns';
import { projects } from './projects';

export const chatCompletions = sqliteTable(
  'chat_completions',
  {
    id: text('id').primaryKey(),
    projectId: text('project_id')
      .notNull()
      .references(() => projects.id, { onDelete: 'cascade' }),
    model: text('model').notNull(),
    objectKey: text('object_key').notNull(),
    sizeBytes: integer('size_bytes').notNull(),
    createdAtMs: createdAtMs(),
    /** From then on nobody reads it, and the sweep deletes it. */
    expiresAtMs: integer('expires_at_ms').notNull().default(0),
  },
  (table) => [
    index('chat_completions_project_idx').on(table.projectId, table.createdAtMs),
    index('chat_completions_expires_idx').on(table.expiresAtMs),
  ],
);
