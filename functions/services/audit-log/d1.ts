// Reads the audit log from D1.
import { and, eq, gte, lt } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { auditLogs } from '../../../db/schema';
import { keysetOf, toPage, type Page } from '../keyset';
import type { AuditEntry, AuditLog, AuditQuery } from './interface';

export class D1AuditLog implements AuditLog {
  readonly #db;

  constructor(database: D1Database) {
    this.#db = drizzle(database);
  }

  async list(query: AuditQuery): Promise<Page<AuditEntry>> {
    const { projectId, actorKeyId, action, fromMs, toMs } = query;
    const { behind, orderBy, limit } = keysetOf(auditLogs.id, query);
    const rows = await this.#db
      .select()
      .from(auditLogs)
      .where(
        and(
          projectId === null ? undefined : eq(auditLogs.projectId, projectId),
          actorKeyId === undefined ? undefined : eq(auditLogs.actorKeyId, actorKeyId),
          action === undefined ? undefined : eq(auditLogs.action, action),
          fromMs === undefined ? undefined : gte(auditLogs.atMs, fromMs),
          toMs === undefined ? undefined : lt(auditLogs.atMs, toMs),
          behind,
        ),
      )
      .orderBy(orderBy)
      .limit(limit);
    return toPage(rows, query);
  }
}
