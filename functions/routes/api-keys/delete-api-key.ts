// DELETE /v1/api_keys/{id}: ends a key for good; what it used stays in the usage.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { ApiError } from '../../errors';
import { actorOf, notFound, reachOf } from '../administration';
import { ApiKeyIdSchema } from './api-key-object';

const DeletedSchema = z
  .object({ object: z.literal('api_key.deleted'), id: z.string(), deleted: z.literal(true) })
  .openapi('ApiKeyDeleted', {
    example: { object: 'api_key.deleted', id: 'key_01KAV5W1Q2M3N4P5R6S7T8V9WX', deleted: true },
  });

const route = createApiRoute({
  method: 'delete',
  path: '/v1/api_keys/{id}',
  operationId: 'deleteApiKey',
  tags: ['Administration'],
  summary: 'Delete an API key',
  description: 'The key is refused from its next request on. Its usage stays. A key cannot delete itself.',
  access: 'keys:admin',
  metering: 'free',
  request: { params: ApiKeyIdSchema },
  responses: {
    200: { description: 'It is gone.', content: { 'application/json': { schema: DeletedSchema } } },
  },
  errors: ['invalid_value', 'not_found', 'conflict'],
});

export function registerDeleteApiKey(app: App): void {
  app.openapi(route, async (c) => {
    const { keyRegistry } = c.get('services');
    const record = await keyRegistry.read(reachOf(c.get('key')), c.req.valid('param').id);
    if (record === undefined) throw notFound('API key');
    if (record.id === c.get('key').id) {
      throw new ApiError('conflict', 'An API key cannot delete itself; use another admin key.', {
        param: 'id',
      });
    }
    const isRemoved = await keyRegistry.remove(actorOf(c), record);
    if (!isRemoved) throw notFound('API key');
    return c.json({ object: 'api_key.deleted' as const, id: record.id, deleted: true as const }, 200);
  });
}
