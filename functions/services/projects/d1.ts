// Keeps projects in D1: every change is one batch with its entry in the audit log.
import { and, eq } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { projects } from '../../../db/schema';
import { newId } from '../../lib/id';
import { auditEntry, auditEntryIfThere, type Actor } from '../audit-log';
import { keysetOf, toPage, type Page, type PageQuery } from '../keyset';
import type { LedgerService } from '../ledger';
import { eraseProject } from './erasure';
import type { Project, ProjectRegistry, ProjectSettings } from './interface';

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

  async create(actor: Actor, settings: ProjectSettings & Pick<Project, 'name'>): Promise<Project> {
    const nowMs = Date.now();
    const id = newId('project', nowMs);
    const [[project]] = await this.#db.batch([
      this.#db
        .insert(projects)
        .values({ ...settings, id, createdAtMs: nowMs })
        .returning(),
      auditEntry(this.#db, actor, { action: 'project.created', projectId: id, resourceId: id }),
    ]);
    if (project === undefined) throw new Error('the database gave no row back');
    return project;
  }

  async update(
    actor: Actor,
    id: string,
    settings: ProjectSettings,
    changedFields: readonly string[],
  ): Promise<Project | undefined> {
    const act = { action: 'project.updated', projectId: id, resourceId: id, changedFields } as const;
    const [, [project]] = await this.#db.batch([
      auditEntryIfThere(this.#db, actor, act, projects),
      this.#db.update(projects).set(settings).where(eq(projects.id, id)).returning(),
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
