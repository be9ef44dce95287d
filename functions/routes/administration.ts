// What the routes of administration share: whom a key administers, who acts, and how they refuse.
import type { Context } from 'hono';
import { z } from '@hono/zod-openapi';
import type { AppEnv } from '../context';
import { ApiError } from '../errors';
import type { Actor } from '../services/audit-log';
import type { ApiKey } from '../services/keys';
import { ROOT_PROJECT_ID } from '../services/projects';

export const MAX_ADMIN_BODY_BYTES = 128 * 1024;

/** The only project that a key administers; null for all, which are those of a key of the root project. */
export function reachOf(key: ApiKey): string | null {
  return key.projectId === ROOT_PROJECT_ID ? null : key.projectId;
}

/** The project that a list is narrowed to; null for all. */
export function narrow(key: ApiKey, projectId: string | undefined): string | null {
  const reach = reachOf(key);
  if (projectId === undefined || projectId === reach) return reach;
  if (reach !== null) throw notFound('project', 'project_id');
  return projectId;
}

export function actorOf(c: Context<AppEnv>): Actor {
  return { keyId: c.get('key').id, requestId: c.get('requestId') };
}

/** The same for an unknown id and for one that the caller cannot reach. */
export function notFound(what: 'API key' | 'project', param = 'id'): ApiError {
  return new ApiError('not_found', `There is no ${what} of this id that this API key administers.`, {
    param,
  });
}

/** Nobody hands out what they lack, be it by a new secret or by a new scope. */
export function refuseMoreScopes(key: ApiKey, scopes: readonly string[]): void {
  const lacking = scopes.find((scope) => !(key.scopes as readonly string[]).includes(scope));
  if (lacking === undefined) return;
  const message = `This API key lacks the scope '${lacking}', so it cannot give it to another.`;
  throw new ApiError('permission_denied', message, { param: 'scopes' });
}

export const idParameters = (description: string, example: string) =>
  z.object({
    id: z
      .string()
      .max(64)
      .openapi({ param: { name: 'id', in: 'path' }, description, example }),
  });

export const projectIdFilter = z.string().min(1).max(64).optional().openapi({
  description: 'Only those of this project; keys of the root project reach all, others their own.',
});
