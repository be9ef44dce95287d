// One row per API key: a keyed hash of it, never the key.
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import { budget, createdAtMs } from './columns';
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
    /** What the ledger holds this key to. The defaults are generous: they are for development. */
    requestsPerMinute: integer('requests_per_minute').notNull().default(60_000),
    tokensPerMinute: integer('tokens_per_minute').notNull().default(100_000_000),
    concurrency: integer('concurrency').notNull().default(1000),
    ...budget(),
    /** Nothing that the key's requests say or are answered is kept. */
    zeroDataRetention: integer('zero_data_retention', { mode: 'boolean' }).notNull().default(false),
    /** Models that the key may name; null for all. */
    allowedModels: text('allowed_models', { mode: 'json' }).$type<string[]>(),
    /** Addresses and CIDR blocks that the key may be used from; null for everywhere. */
    ipAllowList: text('ip_allow_list', { mode: 'json' }).$type<string[]>(),
    /** Metered requests must name their `user`. */
    isEndUserRequired: integer('is_end_user_required', { mode: 'boolean' }).notNull().default(false),
    /** The secret before the last rotation, like `lookup` and `hash`, and until when it is good. */
    previousLookup: text('previous_lookup'),
    previousHash: text('previous_hash'),
    previousExpiresAtMs: integer('previous_expires_at_ms'),
  },
  (table) => [
    index('api_keys_lookup_idx').on(table.lookup),
    index('api_keys_previous_lookup_idx').on(table.previousLookup),
    index('api_keys_project_idx').on(table.projectId),
  ],
);
