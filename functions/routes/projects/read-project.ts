// GET /v1/projects/{id}: one project.
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { notFound, reachOf } from '../administration';
import { ProjectIdSchema, ProjectSchema, toProject } from './project-object';

const route = createApiRoute({
  method: 'get',
  path: '/v1/projects/{id}',
  operationId: 'readProject',
  tags: ['Administration'],
  summary: 'Read a project',
  description: 'One project that the caller administers.',
  access: 'keys:admin',
  metering: 'free',
  request: { params: ProjectIdSchema },
  responses: {
    200: { description: 'The project.', content: { 'application/json': { schema: ProjectSchema } } },
  },
  errors: ['invalid_value', 'not_found'],
});

export function registerReadProject(app: App): void {
  app.openapi(route, async (c) => {
    const project = await c.get('services').projects.read(reachOf(c.get('key')), c.req.valid('param').id);
    if (project === undefined) throw notFound('project');
    return c.json(toProject(project), 200);
  });
}
