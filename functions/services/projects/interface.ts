// What the rest of the edge asks about projects: they own keys and everything that is stored through them.
import type { projects } from '../../../db/schema';
import type { Actor } from '../audit-log';
import type { Page, PageQuery } from '../keyset';

/** The project whose admin keys administer all others; a command makes it, and nothing deletes it. */
export const ROOT_PROJECT_ID = 'prj_00000000000000000000000000';

export type Project = typeof projects.$inferSelect;

/** What an admin sets; what is undefined stays, or has its default in a new project. */
export type ProjectSettings = {
  [Name in Exclude<keyof Project, 'id' | 'createdAtMs' | 'cacheGeneration'>]?: Project[Name] | undefined;
};

export interface ProjectRegistry {
  /** @param reach the only project that the caller may see; null for all */
  list(reach: string | null, query: PageQuery): Promise<Page<Project>>;
  /** Undefined for an unknown id and for one that the caller cannot reach. */
  read(reach: string | null, id: string): Promise<Project | undefined>;
  create(actor: Actor, settings: ProjectSettings & Pick<Project, 'name'>): Promise<Project>;
  /** @param changedFields the names that the audit log is to say */
  update(
    actor: Actor,
    id: string,
    settings: ProjectSettings,
    changedFields: readonly string[],
  ): Promise<Project | undefined>;
  /** Forgets all cached answers of a project; false when it is gone. */
  purgeCache(actor: Actor, id: string): Promise<boolean>;
  /** Erases a project and all that is kept of it; when that fails in the middle, asking again goes on. */
  erase(actor: Actor, id: string): Promise<void>;
}
