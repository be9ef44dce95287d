// DELETE /v1/cache: no cached answer of a project is given again.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { actorOf, notFound, reachOf } from '../administration';

const PurgedSchema = z
  .object({ object: z.literal('cache.deleted'), project_id: z.string(), deleted: z.literal(true) })
  .openapi('CacheDeleted', {
    example: { object: 'cache.deleted', project_id: 'prj_01KAV5W1Q2M3N4P5R6S7T8V9WX', deleted: true },
  });

const route = createApiRoute({
  method: 'delete',
  path: '/v1/cache',
  operationId: 'purgeCache',
  tags: ['Administration'],
  summary: 'Purge the cache of a project',
  description:
    'From the next request on no answer is given that was cached before. Answers that are kept for repeats or stored stay.',
  access: 'keys:admin',
  metering: 'free',
  request: {
    query: z.strictObject({
      project_id: z.string().min(1).max(64).optional().openapi({
        description:
          'Whose cache; the project of the API key when absent. Keys of the root project reach all, others their own.',
      }),
    }),
  },
  responses: {
    200: { description: 'It is empty.', content: { 'application/json': { schema: PurgedSchema } } },
  },
  errors: ['invalid_value', 'unknown_parameter', 'not_found'],
});

export function registerPurgeCache(app: App): void {
  app.openapi(route, async (c) => {
    const { projects } = c.get('services');
    const id = c.req.valid('query').project_id ?? c.get('key').projectId;
    const project = await projects.read(reachOf(c.get('key')), id);
    const isPurged = project !== undefined && (await projects.purgeCache(actorOf(c), project.id));
    if (!isPurged) throw notFound('project', 'project_id');
    return c.json({ object: 'cache.deleted' as const, project_id: id, deleted: true as const }, 200);
  });
}
