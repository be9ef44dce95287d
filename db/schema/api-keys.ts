// One row per API key: a keyed hash of it, never the key.
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import { createdAtMs } from './columns';
import { projects } from './projects';

export const apiKeys = sqliteTable(
  'api_keys',
  {
    id: text('id').primaryKey(),
    projectId: text('project_id')
      .notNull()
      .references(() => projects.id, { onDelete: 'cascade' }),
    name: text('name').notNull(),
    environment: text('environment', { enum: ['test', 'live'] }).notNull(),
    /** The first 16 characters of `hash`: found by index, while the rest is compared in constant time. */
    lookup: text('lookup').notNull(),
    /** HMAC-SHA-256 of the whole key under KEY_PEPPER, in hexadecimal. */
    hash: text('hash').notNull(),
    last4: text('last4').notNull(),
    scopes: text('scopes', { mode: 'json' }).$type<string[]>().notNull(),
    expiresAtMs: integer('expires_at_ms'),
    disabledAtMs: integer('disabled_at_ms'),
    createdAtMs: createdAtMs(),
    /** From -4 to 4: each step doubles the share that this key's requests have where requests wait. */
    priority: integer('priority').notNull().default(0),
  },
  (table) => [
    index('api_keys_lookup_idx').on(table.lookup),
    index('api_keys_project_idx').on(table.projectId),
  ],
);
