// PATCH /v1/api_keys/{id}: changes what a key may do, from its next request on.
import type { Context } from 'hono';
import { createApiRoute } from '../../api-route';
import type { App, AppEnv } from '../../context';
import { ApiError } from '../../errors';
import { isInAny } from '../../lib/cidr';
import { actorOf, MAX_ADMIN_BODY_BYTES, notFound, reachOf, refuseMoreScopes } from '../administration';
import { ApiKeyIdSchema, ApiKeySchema, toApiKey } from './api-key-object';
import { toSettings, UpdateApiKeySchema, type ApiKeyChanges } from './api-key-settings';

const route = createApiRoute({
  method: 'patch',
  path: '/v1/api_keys/{id}',
  operationId: 'updateApiKey',
  tags: ['Administration'],
  summary: 'Change an API key',
  description:
    'Sets what the body names and leaves the rest; of two changes at once the last one wins. It holds from the next request of the key on. Scopes that are added must be those of the key that asks.',
  access: 'keys:admin',
  metering: 'free',
  maxBodyBytes: MAX_ADMIN_BODY_BYTES,
  request: {
    params: ApiKeyIdSchema,
    body: { required: true, content: { 'application/json': { schema: UpdateApiKeySchema } } },
  },
  responses: {
    200: { description: 'The key as it is now.', content: { 'application/json': { schema: ApiKeySchema } } },
  },
  errors: ['permission_denied', 'not_found', 'conflict'],
});

export function registerUpdateApiKey(app: App): void {
  app.openapi(route, async (c) => {
    const changes = c.req.valid('json');
    const { keyRegistry } = c.get('services');
    const record = await keyRegistry.read(reachOf(c.get('key')), c.req.valid('param').id);
    if (record === undefined) throw notFound('API key');
    const added = changes.scopes?.filter((scope) => !record.scopes.includes(scope));
    refuseMoreScopes(c.get('key'), added ?? []);
    if (record.id === c.get('key').id) refuseLockout(c, changes);
    const names = Object.keys(changes);
    if (names.length === 0) return c.json(toApiKey(record), 200);
    const updated = await keyRegistry.update(actorOf(c), record, toSettings(changes), names);
    if (updated === undefined) throw notFound('API key');
    return c.json(toApiKey(updated), 200);
  });
}

/** A key must not take from itself what it would need to undo the change. */
function refuseLockout(c: Context<AppEnv>, { disabled, scopes, ip_allow_list }: ApiKeyChanges): void {
  const refuse = (param: string, what: string) =>
    new ApiError('conflict', `'${param}': an API key cannot ${what}; use another admin key.`, { param });
  if (disabled === true) throw refuse('disabled', 'disable itself');
  if (scopes !== undefined && !scopes.includes('keys:admin')) {
    throw refuse('scopes', "take the scope 'keys:admin' from itself");
  }
  if (ip_allow_list && !isInAny(c.req.header('cf-connecting-ip') ?? '', ip_allow_list)) {
    throw refuse('ip_allow_list', 'shut out the address that it is used from');
  }
}
