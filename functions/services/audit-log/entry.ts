// The statement that writes an act down; it goes into the same batch as the act, so that neither is there without the other.
import { sql, type SQL } from 'drizzle-orm';
import type { DrizzleD1Database } from 'drizzle-orm/d1';
import { type apiKeys, auditLogs, type projects } from '../../../db/schema';
import { newId } from '../../lib/id';
import type { Action, Actor } from './interface';

interface Act {
  action: Action;
  projectId: string;
  resourceId: string;
  /** Names only: values may be secrets or somebody's text. */
  changedFields?: readonly string[];
}

/** Of something new. */
export function auditEntry(db: DrizzleD1Database, actor: Actor, act: Act) {
  return db.insert(auditLogs).values(rowOf(actor, act));
}

/** Of something that is there: it goes before the act in the batch, and writes nothing when somebody else has deleted the thing. */
export function auditEntryIfThere(
  db: DrizzleD1Database,
  actor: Actor,
  act: Act,
  table: typeof apiKeys | typeof projects,
) {
  const row = rowOf(actor, act);
  const values: SQL[] = [
    // In the order of the columns.
    sql`${row.id}`,
    sql`${row.atMs}`,
    sql`${row.projectId}`,
    sql`${row.actorKeyId}`,
    sql`${row.action}`,
    sql`${row.resourceId}`,
    sql`${JSON.stringify(row.changedFields)}`,
    sql`${row.requestId}`,
  ];
  const isThere = sql`EXISTS (SELECT 1 FROM ${table} WHERE ${table.id} = ${act.resourceId})`;
  return db.insert(auditLogs).select(sql`SELECT ${sql.join(values, sql`, `)} WHERE ${isThere}`);
}

function rowOf(actor: Actor, { action, projectId, resourceId, changedFields = [] }: Act) {
  const atMs = Date.now();
  return {
    id: newId('auditLog', atMs),
    atMs,
    projectId,
    actorKeyId: actor.keyId,
    action,
    resourceId,
    changedFields: [...changedFields],
    requestId: actor.requestId,
  };
}
