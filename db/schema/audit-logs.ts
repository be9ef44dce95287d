// One row per act of administration: ids and names of fields, never a secret nor anybody's text. Triggers refuse changes.
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';

export const auditLogs = sqliteTable(
  'audit_logs',
  {
    id: text('id').primaryKey(),
    atMs: integer('at_ms').notNull(),
    /** Whom it concerns. No reference: the entry outlives its project. */
    projectId: text('project_id').notNull(),
    /** The key that did it; null for a command on the operator's machine. */
    actorKeyId: text('actor_key_id'),
    action: text('action').notNull(),
    /** What was acted on. */
    resourceId: text('resource_id').notNull(),
    /** The names of the fields that were set. */
    changedFields: text('changed_fields', { mode: 'json' }).$type<string[]>().notNull(),
    requestId: text('request_id'),
  },
  (table) => [
    index('audit_logs_project_idx').on(table.projectId, table.id),
    index('audit_logs_actor_idx').on(table.actorKeyId, table.id),
  ],
);
