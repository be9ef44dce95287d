// Keeps API keys in D1 as admins see and change them: every change is one batch with its entry in the audit log, and holds when it is answered.
import { and, eq, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { apiKeys, projects } from '../../../db/schema';
import { newId } from '../../lib/id';
import { auditEntry, auditEntryIfThere, type Actor } from '../audit-log';
import { keysetOf, toPage, type Page, type PageQuery } from '../keyset';
import { hashKey, lastFourOf, newSecret } from './format';
import { allForgotten } from './short-memory';
import type { KeyIdentity, KeyRecord, KeyRegistry, KeySettings, KeyWithSecret, NewKey } from './registry';

/** What may be read: a column that is added is not, until it stands here. */
const VISIBLE = {
  id: apiKeys.id,
  projectId: apiKeys.projectId,
  name: apiKeys.name,
  environment: apiKeys.environment,
  last4: apiKeys.last4,
  scopes: apiKeys.scopes,
  expiresAtMs: apiKeys.expiresAtMs,
  disabledAtMs: apiKeys.disabledAtMs,
  createdAtMs: apiKeys.createdAtMs,
  requestsPerMinute: apiKeys.requestsPerMinute,
  tokensPerMinute: apiKeys.tokensPerMinute,
  concurrency: apiKeys.concurrency,
  budgetMicros: apiKeys.budgetMicros,
  budgetWindow: apiKeys.budgetWindow,
  isBudgetHard: apiKeys.isBudgetHard,
  zeroDataRetention: apiKeys.zeroDataRetention,
  allowedModels: apiKeys.allowedModels,
  ipAllowList: apiKeys.ipAllowList,
  isEndUserRequired: apiKeys.isEndUserRequired,
  previousExpiresAtMs: apiKeys.previousExpiresAtMs,
};

export class D1KeyRegistry implements KeyRegistry {
  readonly #db;
  readonly #pepper: string;

  constructor(database: D1Database, pepper: string) {
    this.#db = drizzle(database);
    this.#pepper = pepper;
  }

  async list(projectId: string | null, query: PageQuery): Promise<Page<KeyRecord>> {
    const { behind, orderBy, limit } = keysetOf(apiKeys.id, query);
    const rows = await this.#db
      .select(VISIBLE)
      .from(apiKeys)
      .where(and(ofProject(projectId), behind))
      .orderBy(orderBy)
      .limit(limit);
    return toPage(rows, query);
  }

  async read(reach: string | null, id: string): Promise<KeyRecord | undefined> {
    const rows = await this.#db
      .select(VISIBLE)
      .from(apiKeys)
      .where(and(eq(apiKeys.id, id), ofProject(reach)));
    return rows[0];
  }

  async create(
    actor: Actor,
    { projectId, environment, settings }: NewKey,
  ): Promise<KeyWithSecret | undefined> {
    if ((await this.#db.$count(projects, eq(projects.id, projectId))) === 0) return undefined;
    const nowMs = Date.now();
    const id = newId('key', nowMs);
    const secret = newSecret(environment);
    const stored = await this.#stored(secret);
    const [[record]] = await this.#db.batch([
      this.#db
        .insert(apiKeys)
        .values({ ...settings, ...stored, id, projectId, environment, createdAtMs: nowMs })
        .returning(VISIBLE),
      auditEntry(this.#db, actor, { action: 'api_key.created', projectId, resourceId: id }),
    ]);
    return record === undefined ? undefined : { record, secret };
  }

  async update(
    actor: Actor,
    { id, projectId }: KeyIdentity,
    settings: KeySettings,
    changedFields: readonly string[],
  ): Promise<KeyRecord | undefined> {
    const act = { action: 'api_key.updated', projectId, resourceId: id, changedFields } as const;
    const [, [record]] = await this.#db.batch([
      auditEntryIfThere(this.#db, actor, act, apiKeys),
      this.#db.update(apiKeys).set(settings).where(eq(apiKeys.id, id)).returning(VISIBLE),
    ]);
    await allForgotten();
    return record;
  }

  async rotate(
    actor: Actor,
    { id, projectId }: KeyIdentity,
    overlapMs: number,
  ): Promise<KeyWithSecret | undefined> {
    const [found] = await this.#db
      .select({ environment: apiKeys.environment })
      .from(apiKeys)
      .where(eq(apiKeys.id, id));
    if (found === undefined) return undefined;
    const secret = newSecret(found.environment);
    const stored = await this.#stored(secret);
    const previous =
      overlapMs === 0
        ? { previousLookup: null, previousHash: null, previousExpiresAtMs: null }
        : {
            // The columns before the change: of two rotations at once the second keeps the first one's secret.
            previousLookup: sql`${apiKeys.lookup}`,
            previousHash: sql`${apiKeys.hash}`,
            previousExpiresAtMs: Date.now() + overlapMs,
          };
    const act = { action: 'api_key.rotated', projectId, resourceId: id } as const;
    const [, [record]] = await this.#db.batch([
      auditEntryIfThere(this.#db, actor, act, apiKeys),
      this.#db
        .update(apiKeys)
        .set({ ...stored, ...previous })
        .where(eq(apiKeys.id, id))
        .returning(VISIBLE),
    ]);
    await allForgotten();
    return record === undefined ? undefined : { record, secret };
  }

  async remove(actor: Actor, { id, projectId }: KeyIdentity): Promise<boolean> {
    const act = { action: 'api_key.deleted', projectId, resourceId: id } as const;
    const [, removed] = await this.#db.batch([
      auditEntryIfThere(this.#db, actor, act, apiKeys),
      this.#db.delete(apiKeys).where(eq(apiKeys.id, id)).returning({ id: apiKeys.id }),
    ]);
    await allForgotten();
    return removed.length > 0;
  }

  async #stored(secret: string) {
    return { ...(await hashKey(this.#pepper, secret)), last4: lastFourOf(secret) };
  }
}

function ofProject(projectId: string | null) {
  return projectId === null ? undefined : eq(apiKeys.projectId, projectId);
}
