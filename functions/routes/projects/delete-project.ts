// DELETE /v1/projects/{id}: erases a project and everything that is stored through it.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { ApiError } from '../../errors';
import { actorOf, notFound, reachOf } from '../administration';
import { ProjectIdSchema } from './project-object';

const DeletedSchema = z
  .object({ object: z.literal('project.deleted'), id: z.string(), deleted: z.literal(true) })
  .openapi('ProjectDeleted', {
    example: { object: 'project.deleted', id: 'prj_01KAV5W1Q2M3N4P5R6S7T8V9WX', deleted: true },
  });

const route = createApiRoute({
  method: 'delete',
  path: '/v1/projects/{id}',
  operationId: 'deleteProject',
  tags: ['Administration'],
  summary: 'Delete a project',
  description:
    'Erases the project: its keys, stored and cached answers, usage, idempotency keys and ledgers. What stays are its entries in the audit log, which hold ids and names of fields only. After an error that says to try again, the same call goes on. A key cannot delete its own project.',
  access: 'keys:admin',
  metering: 'free',
  request: { params: ProjectIdSchema },
  responses: {
    200: { description: 'It is gone.', content: { 'application/json': { schema: DeletedSchema } } },
  },
  errors: ['invalid_value', 'not_found', 'conflict'],
});

export function registerDeleteProject(app: App): void {
  app.openapi(route, async (c) => {
    const { projects } = c.get('services');
    const project = await projects.read(reachOf(c.get('key')), c.req.valid('param').id);
    if (project === undefined) throw notFound('project');
    if (project.id === c.get('key').projectId) {
      const message =
        'An API key cannot delete the project that it belongs to; use a key of the root project.';
      throw new ApiError('conflict', message, { param: 'id' });
    }
    await projects.erase(actorOf(c), project.id);
    return c.json({ object: 'project.deleted' as const, id: project.id, deleted: true as const }, 200);
  });
}
