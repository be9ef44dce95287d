// GET /v1/projects: the projects that the caller administers.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { checkPlace, listOf, pageParameters, toList, toPageQuery } from '../../schemas/page';
import { reachOf } from '../administration';
import { ProjectSchema, toProject } from './project-object';

const route = createApiRoute({
  method: 'get',
  path: '/v1/projects',
  operationId: 'listProjects',
  tags: ['Administration'],
  summary: 'List projects',
  description: 'The project of the API key that asks; all of them for one of the root project.',
  access: 'keys:admin',
  metering: 'free',
  request: { query: z.strictObject(pageParameters).superRefine(checkPlace) },
  responses: {
    200: {
      description: 'A page of projects.',
      content: { 'application/json': { schema: listOf(ProjectSchema).openapi('ProjectList') } },
    },
  },
  errors: ['invalid_value', 'unknown_parameter'],
});

export function registerListProjects(app: App): void {
  app.openapi(route, async (c) => {
    const query = toPageQuery(c.req.valid('query'));
    const { rows, hasMore } = await c.get('services').projects.list(reachOf(c.get('key')), query);
    return c.json(toList(rows.map(toProject), hasMore), 200);
  });
}
