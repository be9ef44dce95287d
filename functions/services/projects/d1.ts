// Keeps projects in D1: every change is one batch with its entry in the audit log.
import { and, eq } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { projects } from '../../../db/schema';
import { newId } from '../../lib/id';
import { auditEntry, auditEntryIfThere, type Actor } from '../audit-log';
import { keysetOf, toPage, type Page, type PageQuery } from '../keyset';
import type { LedgerService } from '../ledger';
import { eraseProject } from './erasure';
import type { Project, ProjectRegistry } from './interface';

export class D1ProjectRegistry implements ProjectRegistry {
  readonly #db;
  readonly #bucket: R2Bucket;
  readonly #ledger: LedgerService;

  constructor(database: D1Database, bucket: R2Bucket, ledger: LedgerService) {
    this.#db = drizzle(database);
    this.#bucket = bucket;
    this.#ledger = ledger;
  }

  async list(reach: string | null, query: PageQuery): Promise<Page<Project>> {
    const { behind, orderBy, limit } = keysetOf(projects.id, query);
    const rows = await this.#db
      .select()
      .from(projects)
      .where(and(within(reach), behind))
      .orderBy(orderBy)
      .limit(limit);
    return toPage(rows, query);
  }

  async read(reach: string | null, id: string): Promise<Project | undefined> {
    const rows = await this.#db
      .select()
      .from(projects)
      .where(and(eq(projects.id, id), within(reach)));
    return rows[0];
  }

  async create(actor: Actor, name: string): Promise<Project> {
    const nowMs = Date.now();
    const project = { id: newId('project', nowMs), name, createdAtMs: nowMs };
    await this.#db.batch([
      this.#db.insert(projects).values(project),
      auditEntry(this.#db, actor, {
        action: 'project.created',
        projectId: project.id,
        resourceId: project.id,
      }),
    ]);
    return project;
  }

  async rename(actor: Actor, id: string, name: string): Promise<Project | undefined> {
    const act = {
      action: 'project.updated',
      projectId: id,
      resourceId: id,
      changedFields: ['name'],
    } as const;
    const [, [project]] = await this.#db.batch([
      auditEntryIfThere(this.#db, actor, act, projects),
      this.#db.update(projects).set({ name }).where(eq(projects.id, id)).returning(),
    ]);
    return project;
  }

  async erase(actor: Actor, id: string): Promise<void> {
    await eraseProject({ db: this.#db, bucket: this.#bucket, ledger: this.#ledger }, actor, id);
  }
}

function within(reach: string | null) {
  return reach === null ? undefined : eq(projects.id, reach);
}
