// A project as admins see it, and what they may set of it.
import type { Context } from 'hono';
import { z } from '@hono/zod-openapi';
import type { AppEnv } from '../../context';
import { ApiError } from '../../errors';
import { toUnixSeconds } from '../../lib/time';
import { BudgetSchema, toBudget, toBudgetColumns } from '../../schemas/budget';
import type { Project, ProjectSettings } from '../../services/projects';
import { idParameters, reachOf } from '../administration';

const budget = { limit_micros: 50000000, window: 'month' as const, enforcement: 'hard' as const };

const example = {
  object: 'project' as const,
  id: 'prj_01KAV5W1Q2M3N4P5R6S7T8V9WX',
  name: 'Web shop',
  budget,
  created_at: 1764000000,
};

const settings = {
  name: z.string().min(1).max(128),
  budget: BudgetSchema.nullable().openapi({
    description: 'What all API keys of the project may spend together; null for no budget.',
  }),
};

export const ProjectSchema = z
  .object({
    object: z.literal('project'),
    id: z.string(),
    ...settings,
    created_at: z.int().min(0).openapi({ description: 'Unix time in seconds.' }),
  })
  .openapi('Project', { example });

export const CreateProjectSchema = z
  .strictObject({ name: settings.name, budget: settings.budget.optional() })
  .openapi('CreateProjectRequest', { example: { name: 'Web shop', budget } });

export const UpdateProjectSchema = z
  .strictObject(settings)
  .partial()
  .openapi('UpdateProjectRequest', { example: { budget } });

export const ProjectIdSchema = idParameters('The id of a project.', example.id);

export function toProject(project: Project): z.output<typeof ProjectSchema> {
  const { id, name, createdAtMs } = project;
  return {
    object: 'project',
    id,
    name,
    budget: toBudget(project),
    created_at: toUnixSeconds(createdAtMs),
  };
}

/** In the names of the database; what is absent stays undefined. */
export function toProjectSettings({ name, budget }: z.output<typeof UpdateProjectSchema>): ProjectSettings {
  return { name, ...toBudgetColumns(budget) };
}

/** A budget that those whom it binds could lift would bind nobody. */
export function refuseOwnBudget(c: Context<AppEnv>, changes: z.output<typeof UpdateProjectSchema>): void {
  if (changes.budget === undefined || reachOf(c.get('key')) === null) return;
  const message = "'budget': only API keys of the root project set the budget of a project.";
  throw new ApiError('permission_denied', message, { param: 'budget' });
}
