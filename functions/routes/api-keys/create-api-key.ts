// POST /v1/api_keys: a new key, whose secret is in this answer and nowhere else.
import type { Context } from 'hono';
import { createApiRoute } from '../../api-route';
import type { App, AppEnv } from '../../context';
import { actorOf, MAX_ADMIN_BODY_BYTES, narrow, notFound, refuseMoreScopes } from '../administration';
import { linksById } from '../links';
import { ApiKeyWithValueSchema, toApiKey } from './api-key-object';
import { CreateApiKeySchema, toSettings } from './api-key-settings';

const route = createApiRoute({
  method: 'post',
  path: '/v1/api_keys',
  operationId: 'createApiKey',
  tags: ['Administration'],
  summary: 'Create an API key',
  description:
    'Makes a key with the given scopes, which the key that asks must have itself. `value` is the secret: it is shown this once, also to a repeat with the same `Idempotency-Key`, which hears 409.',
  access: 'keys:admin',
  metering: 'free',
  maxBodyBytes: MAX_ADMIN_BODY_BYTES,
  request: { body: { required: true, content: { 'application/json': { schema: CreateApiKeySchema } } } },
  responses: {
    200: {
      description: 'The key with its secret.',
      content: { 'application/json': { schema: ApiKeyWithValueSchema } },
      links: linksById('readApiKey', 'updateApiKey', 'rotateApiKey', 'deleteApiKey'),
    },
  },
  errors: ['permission_denied', 'not_found'],
});

export function registerCreateApiKey(app: App): void {
  app.openapi(route, async (c) => {
    const { project_id, environment, name, scopes, ...others } = c.req.valid('json');
    const projectId = narrow(c.get('key'), project_id) ?? c.get('key').projectId;
    refuseMoreScopes(c.get('key'), scopes);
    const settings = { ...toSettings(others), name, scopes: [...new Set(scopes)] };
    const made = await c.get('services').keyRegistry.create(actorOf(c), {
      projectId,
      environment: environment ?? 'live',
      settings,
    });
    if (made === undefined) throw notFound('project', 'project_id');
    keepSecret(c);
    return c.json({ ...toApiKey(made.record), value: made.secret }, 200);
  });
}

/** Neither for repeats of the request nor in a cache on the way is an answer kept that has a secret in it. */
export function keepSecret(c: Context<AppEnv>): void {
  c.header('x-data-retention', 'none');
  c.header('cache-control', 'no-store');
}
