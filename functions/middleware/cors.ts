// Lets web pages of the configured origins call, and answers their preflight.
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';
import { parseEnv } from '../env';

const EXPOSED = [
  'x-request-id',
  'x-client-request-id',
  'retry-after',
  'retry-after-ms',
  'x-should-retry',
  'openai-processing-ms',
  'server-timing',
  'x-ratelimit-limit-requests',
  'x-ratelimit-limit-tokens',
  'x-ratelimit-remaining-requests',
  'x-ratelimit-remaining-tokens',
  'x-ratelimit-reset-requests',
  'x-ratelimit-reset-tokens',
  'ratelimit-policy',
  'ratelimit',
  'idempotent-replayed',
  'x-data-retention',
  'x-attune-exit',
  'x-cache',
  'age',
].join(', ');

const METHODS = 'GET, HEAD, POST, PATCH, DELETE, OPTIONS';
const MAX_AGE_SECONDS = '86400';

export const cors = () =>
  createMiddleware<AppEnv>(async function cors(c, next) {
    const allowed = allowOrigin(parseEnv(c.env).CORS_ORIGINS, c.req.header('origin'));
    const isPreflight =
      c.req.method === 'OPTIONS' && c.req.header('access-control-request-method') !== undefined;
    if (isPreflight) c.res = new Response(null, { status: 204 });
    else await next();

    const { headers } = c.res;
    if (allowed !== '*') headers.append('vary', 'Origin');
    if (allowed === undefined) return;
    headers.set('access-control-allow-origin', allowed);
    headers.set('access-control-expose-headers', EXPOSED);
    if (!isPreflight) return;
    headers.set('access-control-allow-methods', METHODS);
    headers.set('access-control-max-age', MAX_AGE_SECONDS);
    // SDKs send many headers of their own (x-stainless-*), so what is asked for is allowed.
    const requested = c.req.header('access-control-request-headers');
    if (requested !== undefined) {
      headers.set('access-control-allow-headers', requested);
      headers.append('vary', 'Access-Control-Request-Headers');
    }
  });

/** The value of `access-control-allow-origin`; undefined when this origin may not read answers. */
function allowOrigin(origins: readonly string[], origin: string | undefined): string | undefined {
  if (origins.includes('*')) return '*';
  return origin !== undefined && origins.includes(origin) ? origin : undefined;
}
