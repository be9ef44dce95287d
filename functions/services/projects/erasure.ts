// Erases a project: its keys, stored and cached answers, usage, its own ledger, and the ledgers and idempotency keys of its API keys.
import { and, eq, isNull } from 'drizzle-orm';
import type { DrizzleD1Database } from 'drizzle-orm/d1';
import { apiKeys, auditLogs, projects, usageDays } from '../../../db/schema';
import { auditEntryIfThere, type Actor } from '../audit-log';
import type { AnswerCache } from '../exit-ladder';
import { allForgotten } from '../keys';
import type { LedgerService } from '../ledger';

/** The folders of the store that have one folder for each project. */
const FOLDERS = ['chat-completions', 'idempotency'];
/** R2 lists and deletes as many objects in one call. */
const MAX_OBJECTS = 1000;
const MAX_LEDGERS_AT_ONCE = 20;

/** What keeps something of a project beside the database. */
export interface ErasedStores {
  bucket: R2Bucket;
  ledger: Pick<LedgerService, 'erase' | 'eraseProject'>;
  answerCache: Pick<AnswerCache, 'erase'>;
}

/** Each step may run again: until the row of the project is gone, a second call does what a failed one left. */
export async function eraseProject(
  db: DrizzleD1Database,
  stores: ErasedStores,
  actor: Actor,
  id: string,
): Promise<void> {
  const ofProject = eq(apiKeys.projectId, id);
  // No new request from here on.
  await db
    .update(apiKeys)
    .set({ disabledAtMs: Date.now() })
    .where(and(ofProject, isNull(apiKeys.disabledAtMs)));
  await allForgotten();
  const keyIds = await keyIdsOf(db, id);
  await eraseStores(stores, id, keyIds);
  // What refers to the project goes with its row.
  const act = { action: 'project.deleted', projectId: id, resourceId: id } as const;
  await db.batch([
    auditEntryIfThere(db, actor, act, projects),
    db.delete(projects).where(eq(projects.id, id)),
  ]);
  // Once more, for what requests that were running have left meanwhile.
  await eraseStores(stores, id, keyIds);
}

/** Also of keys that were deleted before: their ledgers may know end users, and requests that are to be repeated. */
async function keyIdsOf(db: DrizzleD1Database, id: string): Promise<string[]> {
  const deletions = and(eq(auditLogs.projectId, id), eq(auditLogs.action, 'api_key.deleted'));
  const [present, used, deleted] = await db.batch([
    db.select({ id: apiKeys.id }).from(apiKeys).where(eq(apiKeys.projectId, id)),
    db.selectDistinct({ id: usageDays.keyId }).from(usageDays).where(eq(usageDays.projectId, id)),
    db.select({ id: auditLogs.resourceId }).from(auditLogs).where(deletions),
  ]);
  return [...new Set([...present, ...used, ...deleted].map((row) => row.id))];
}

async function eraseStores(
  { bucket, ledger, answerCache }: ErasedStores,
  id: string,
  keyIds: string[],
): Promise<void> {
  for (let at = 0; at < keyIds.length; at += MAX_LEDGERS_AT_ONCE) {
    await Promise.all(keyIds.slice(at, at + MAX_LEDGERS_AT_ONCE).map((keyId) => ledger.erase(keyId)));
  }
  await ledger.eraseProject(id);
  for (const folder of FOLDERS) await eraseFolder(bucket, `${folder}/${id}/`);
  await answerCache.erase(id);
}

async function eraseFolder(bucket: R2Bucket, prefix: string): Promise<void> {
  for (;;) {
    const { objects } = await bucket.list({ prefix, limit: MAX_OBJECTS });
    if (objects.length === 0) return;
    await bucket.delete(objects.map(({ key }) => key));
  }
}
