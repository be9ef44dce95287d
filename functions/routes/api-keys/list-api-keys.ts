// GET /v1/api_keys: the keys that the caller administers, without their secrets.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { checkPlace, listOf, pageParameters, toList, toPageQuery } from '../../schemas/page';
import { narrow, projectIdFilter } from '../administration';
import { ApiKeySchema, toApiKey } from './api-key-object';

const route = createApiRoute({
  method: 'get',
  path: '/v1/api_keys',
  operationId: 'listApiKeys',
  tags: ['Administration'],
  summary: 'List API keys',
  description:
    'The keys of the project of the API key that asks; of all projects for one of the root project.',
  access: 'keys:admin',
  metering: 'free',
  request: {
    query: z.strictObject({ project_id: projectIdFilter, ...pageParameters }).superRefine(checkPlace),
  },
  responses: {
    200: {
      description: 'A page of keys.',
      content: { 'application/json': { schema: listOf(ApiKeySchema).openapi('ApiKeyList') } },
    },
  },
  errors: ['invalid_value', 'unknown_parameter', 'not_found'],
});

export function registerListApiKeys(app: App): void {
  app.openapi(route, async (c) => {
    const query = c.req.valid('query');
    const projectId = narrow(c.get('key'), query.project_id);
    const { rows, hasMore } = await c.get('services').keyRegistry.list(projectId, toPageQuery(query));
    return c.json(toList(rows.map(toApiKey), hasMore), 200);
  });
}
