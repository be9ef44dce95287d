// PATCH /v1/projects/{id}: gives a project another name.
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { actorOf, MAX_ADMIN_BODY_BYTES, notFound, reachOf } from '../administration';
import { ProjectIdSchema, ProjectNameSchema, ProjectSchema, toProject } from './project-object';

const route = createApiRoute({
  method: 'patch',
  path: '/v1/projects/{id}',
  operationId: 'updateProject',
  tags: ['Administration'],
  summary: 'Rename a project',
  description: 'Changes the name of a project that the caller administers; its id stays.',
  access: 'keys:admin',
  metering: 'free',
  maxBodyBytes: MAX_ADMIN_BODY_BYTES,
  request: {
    params: ProjectIdSchema,
    body: { required: true, content: { 'application/json': { schema: ProjectNameSchema } } },
  },
  responses: {
    200: { description: 'The project.', content: { 'application/json': { schema: ProjectSchema } } },
  },
  errors: ['not_found'],
});

export function registerUpdateProject(app: App): void {
  app.openapi(route, async (c) => {
    const { projects } = c.var.services;
    const found = await projects.read(reachOf(c.var.key), c.req.valid('param').id);
    if (found === undefined) throw notFound('project');
    const project = await projects.rename(actorOf(c), found.id, c.req.valid('json').name);
    if (project === undefined) throw notFound('project');
    return c.json(toProject(project), 200);
  });
}
