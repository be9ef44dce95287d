// GET /v1/api_keys/{id}: one key, without its secret.
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { notFound, reachOf } from '../administration';
import { ApiKeyIdSchema, ApiKeySchema, toApiKey } from './api-key-object';

const route = createApiRoute({
  method: 'get',
  path: '/v1/api_keys/{id}',
  operationId: 'readApiKey',
  tags: ['Administration'],
  summary: 'Read an API key',
  description: 'One key that the caller administers, without its secret.',
  access: 'keys:admin',
  metering: 'free',
  request: { params: ApiKeyIdSchema },
  responses: {
    200: { description: 'The key.', content: { 'application/json': { schema: ApiKeySchema } } },
  },
  errors: ['invalid_value', 'not_found'],
});

export function registerReadApiKey(app: App): void {
  app.openapi(route, async (c) => {
    const record = await c.get('services').keyRegistry.read(reachOf(c.get('key')), c.req.valid('param').id);
    if (record === undefined) throw notFound('API key');
    return c.json(toApiKey(record), 200);
  });
}
