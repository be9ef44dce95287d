// The statement that writes an act down; it goes into the same batch as the act, so that neither is there without the other.
import type { DrizzleD1Database } from 'drizzle-orm/d1';
import { auditLogs } from '../../../db/schema';
import { newId } from '../../lib/id';
import type { Action, Actor } from './interface';

interface Act {
  action: Action;
  projectId: string;
  resourceId: string;
  /** Names only: values may be secrets or somebody's text. */
  changedFields?: readonly string[];
}

export function auditEntry(db: DrizzleD1Database, actor: Actor, act: Act) {
  const nowMs = Date.now();
  return db.insert(auditLogs).values({
    id: newId('auditLog', nowMs),
    atMs: nowMs,
    projectId: act.projectId,
    actorKeyId: actor.keyId,
    action: act.action,
    resourceId: act.resourceId,
    changedFields: [...(act.changedFields ?? [])],
    requestId: actor.requestId,
  });
}
