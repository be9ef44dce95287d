// A project as admins see it, and what they may set of it.
import { z } from '@hono/zod-openapi';
import { toUnixSeconds } from '../../lib/time';
import type { Project } from '../../services/projects';
import { idParameters } from '../administration';

const example = {
  object: 'project' as const,
  id: 'prj_01KAV5W1Q2M3N4P5R6S7T8V9WX',
  name: 'Web shop',
  created_at: 1764000000,
};

export const ProjectSchema = z
  .object({
    object: z.literal('project'),
    id: z.string(),
    name: z.string(),
    created_at: z.int().min(0).openapi({ description: 'Unix time in seconds.' }),
  })
  .openapi('Project', { example });

export const ProjectNameSchema = z
  .strictObject({ name: z.string().min(1).max(128) })
  .openapi('ProjectRequest', { example: { name: 'Web shop' } });

export const ProjectIdSchema = idParameters('The id of a project.', example.id);

export function toProject({ id, name, createdAtMs }: Project): z.output<typeof ProjectSchema> {
  return { object: 'project', id, name, created_at: toUnixSeconds(createdAtMs) };
}
