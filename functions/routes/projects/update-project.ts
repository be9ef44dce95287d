// PATCH /v1/projects/{id}: gives a project another name or budget.
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { actorOf, MAX_ADMIN_BODY_BYTES, notFound, reachOf } from '../administration';
import {
  ProjectIdSchema,
  ProjectSchema,
  refuseOwnBudget,
  toProject,
  toProjectSettings,
  UpdateProjectSchema,
} from './project-object';

const route = createApiRoute({
  method: 'patch',
  path: '/v1/projects/{id}',
  operationId: 'updateProject',
  tags: ['Administration'],
  summary: 'Change a project',
  description:
    'Sets what the body names of a project that the caller administers, and leaves the rest. Only keys of the root project set a `budget`; it holds from the next request on.',
  access: 'keys:admin',
  metering: 'free',
  maxBodyBytes: MAX_ADMIN_BODY_BYTES,
  request: {
    params: ProjectIdSchema,
    body: { required: true, content: { 'application/json': { schema: UpdateProjectSchema } } },
  },
  responses: {
    200: { description: 'The project.', content: { 'application/json': { schema: ProjectSchema } } },
  },
  errors: ['permission_denied', 'not_found'],
});

export function registerUpdateProject(app: App): void {
  app.openapi(route, async (c) => {
    const { projects } = c.get('services');
    const changes = c.req.valid('json');
    const found = await projects.read(reachOf(c.get('key')), c.req.valid('param').id);
    if (found === undefined) throw notFound('project');
    refuseOwnBudget(c, changes);
    const names = Object.keys(changes);
    if (names.length === 0) return c.json(toProject(found), 200);
    const project = await projects.update(actorOf(c), found.id, toProjectSettings(changes), names);
    if (project === undefined) throw notFound('project');
    return c.json(toProject(project), 200);
  });
}
