// Keeps projects in D1: every change is one batch with its entry in the audit log, and holds when it is answered.
import { and, eq, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { projects } from '../../../db/schema';
import { newId } from '../../lib/id';
import { auditEntry, auditEntryIfThere, type Actor } from '../audit-log';
import { allForgotten } from '../keys';
import { keysetOf, toPage, type Page, type PageQuery } from '../keyset';
import { eraseProject, type ErasedStores } from './erasure';
import type { Project, ProjectRegistry, ProjectSettings } from './interface';

export class D1ProjectRegistry implements ProjectRegistry {
  readonly #db;
  readonly #stores: ErasedStores;

  constructor(database: D1Database, stores: ErasedStores) {
    this.#db = drizzle(database);
    this.#stores = stores;
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
    await allForgotten();
    return project;
  }

  async purgeCache(actor: Actor, id: string): Promise<boolean> {
    const act = { action: 'project.cache_purged', projectId: id, resourceId: id } as const;
    const [, purged] = await this.#db.batch([
      auditEntryIfThere(this.#db, actor, act, projects),
      this.#db
        .update(projects)
        .set({ cacheGeneration: sql`${projects.cacheGeneration} + 1` })
        .where(eq(projects.id, id))
        .returning({ id: projects.id }),
    ]);
    await allForgotten();
    return purged.length > 0;
  }

  async erase(actor: Actor, id: string): Promise<void> {
    await eraseProject(this.#db, this.#stores, actor, id);
  }
}

function within(reach: string | null) {
  return reach === null ? undefined : eq(projects.id, reach);
}
