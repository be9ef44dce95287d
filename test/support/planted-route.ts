// An operation that no route file declares, for rules that must notice one.
import { createApiRoute } from '../../functions/api-route';
import type { App } from '../../functions/context';
import type { linksById } from '../../functions/routes/links';

/** Adds `GET /v1/planted`, which asks for a key and answers 204. */
export function plantRoute(app: App, links: ReturnType<typeof linksById> = {}): App {
  const route = createApiRoute({
    method: 'get',
    path: '/v1/planted',
    operationId: 'readPlanted',
    tags: ['Health'],
    summary: 'Planted',
    description: 'Planted.',
    access: 'any_key',
    metering: 'free',
    responses: { 204: { description: 'Nothing.', links } },
  });
  app.openapi(route, (c) => c.body(null, 204));
  return app;
}
