// POST /v1/api_keys/{id}/rotate: a new secret for a key, while the old one is good for a while.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { actorOf, MAX_ADMIN_BODY_BYTES, notFound, reachOf, refuseMoreScopes } from '../administration';
import { ApiKeyIdSchema, ApiKeyWithValueSchema, toApiKey } from './api-key-object';
import { keepSecret } from './create-api-key';

const DAY_SECONDS = 24 * 60 * 60;

const RotateApiKeySchema = z
  .strictObject({
    overlap_seconds: z
      .int()
      .min(0)
      .max(7 * DAY_SECONDS)
      .optional()
      .openapi({ default: DAY_SECONDS, description: 'How long the secret of until now stays good.' }),
  })
  .openapi('RotateApiKeyRequest', { example: { overlap_seconds: 3600 } });

const route = createApiRoute({
  method: 'post',
  path: '/v1/api_keys/{id}/rotate',
  operationId: 'rotateApiKey',
  tags: ['Administration'],
  summary: 'Rotate an API key',
  description:
    'Gives a key a new secret. The one of until now stays good for `overlap_seconds`; a still earlier one ends at once. Limits, usage and id stay. The key that asks must have all scopes of the rotated one.',
  access: 'keys:admin',
  metering: 'free',
  maxBodyBytes: MAX_ADMIN_BODY_BYTES,
  request: {
    params: ApiKeyIdSchema,
    body: { required: true, content: { 'application/json': { schema: RotateApiKeySchema } } },
  },
  responses: {
    200: {
      description: 'The key with its new secret.',
      content: { 'application/json': { schema: ApiKeyWithValueSchema } },
    },
  },
  errors: ['permission_denied', 'not_found'],
});

export function registerRotateApiKey(app: App): void {
  app.openapi(route, async (c) => {
    const { keyRegistry } = c.get('services');
    const { overlap_seconds } = c.req.valid('json');
    const record = await keyRegistry.read(reachOf(c.get('key')), c.req.valid('param').id);
    if (record === undefined) throw notFound('API key');
    refuseMoreScopes(c.get('key'), record.scopes);
    const made = await keyRegistry.rotate(actorOf(c), record, (overlap_seconds ?? DAY_SECONDS) * 1000);
    if (made === undefined) throw notFound('API key');
    keepSecret(c);
    return c.json({ ...toApiKey(made.record), value: made.secret }, 200);
  });
}
