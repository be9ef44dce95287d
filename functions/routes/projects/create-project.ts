// POST /v1/projects: a new project, which has no keys yet.
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { ApiError } from '../../errors';
import { actorOf, MAX_ADMIN_BODY_BYTES, reachOf } from '../administration';
import { linksById } from '../links';
import { CreateProjectSchema, ProjectSchema, toProject, toProjectSettings } from './project-object';

const route = createApiRoute({
  method: 'post',
  path: '/v1/projects',
  operationId: 'createProject',
  tags: ['Administration'],
  summary: 'Create a project',
  description:
    'A project owns keys and everything that is stored through them. Only keys of the root project make one.',
  access: 'keys:admin',
  metering: 'free',
  maxBodyBytes: MAX_ADMIN_BODY_BYTES,
  request: { body: { required: true, content: { 'application/json': { schema: CreateProjectSchema } } } },
  responses: {
    200: {
      description: 'The project.',
      content: { 'application/json': { schema: ProjectSchema } },
      links: linksById('readProject', 'updateProject', 'deleteProject'),
    },
  },
  errors: ['permission_denied'],
});

export function registerCreateProject(app: App): void {
  app.openapi(route, async (c) => {
    if (reachOf(c.get('key')) !== null) {
      throw new ApiError('permission_denied', 'Only API keys of the root project create projects.');
    }
    const body = c.req.valid('json');
    const settings = { ...toProjectSettings(body), name: body.name };
    const project = await c.get('services').projects.create(actorOf(c), settings);
    return c.json(toProject(project), 200);
  });
}
