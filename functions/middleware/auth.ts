// Step 2 of a request: finds the API key, by its keyed hash, and checks where it is used from and its scope.
import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';
import { ApiError } from '../errors';
import { isInAny } from '../lib/cidr';
import type { Scope } from '../services/keys';
import { timed } from './timing';

/** Names under which others take keys in the query, in lower case; none is a parameter of ours. */
export const KEY_PARAMETERS = ['api_key', 'apikey', 'api-key', 'x-api-key', 'key', 'access_token', 'token'];

/** What an operation asks of its caller: nothing, any valid key, or a key with this scope. */
export type Access = 'public' | 'any_key' | Scope;

export const requireKey = (access: Exclude<Access, 'public'>) =>
  createMiddleware<AppEnv>(async function requireKey(c, next) {
    refuseKeyInQuery(c);
    const secret = readSecret(c);
    const key =
      secret === undefined ? undefined : await timed(c, 'auth', c.get('services').keys.verify(secret));
    if (key === undefined) {
      // One answer for every reason, so that nobody learns which keys exist.
      const message =
        "Incorrect API key provided. Send a valid key as 'Authorization: Bearer KEY' or in 'x-api-key'.";
      throw new ApiError('invalid_api_key', message, { headers: { 'www-authenticate': 'Bearer' } });
    }
    // From here on the caller is known, also where the request is refused.
    c.set('key', key);
    // Cloudflare sets this header and takes away what a caller wrote into it.
    const address = c.req.header('cf-connecting-ip') ?? '';
    if (key.ipAllowList !== null && !isInAny(address, key.ipAllowList)) {
      const message = 'This API key may not be used from the address that the request came from.';
      throw new ApiError('ip_address_not_allowed', message);
    }
    if (access !== 'any_key' && !key.scopes.includes(access)) {
      const message = `This API key lacks the scope '${access}', which the operation needs.`;
      throw new ApiError('insufficient_scope', message);
    }
    await next();
  });

function readSecret(c: Context<AppEnv>): string | undefined {
  const bearer = /^bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '');
  return bearer?.[1] ?? c.req.header('x-api-key');
}

/** Proxies and browsers write addresses down, so that a key in one is not secret any more; also beside a good one. */
function refuseKeyInQuery(c: Context<AppEnv>): void {
  const { url } = c.req;
  const start = url.indexOf('?');
  if (start === -1) return;
  const names = new Set([...new URLSearchParams(url.slice(start)).keys()].map((name) => name.toLowerCase()));
  const param = KEY_PARAMETERS.find((name) => names.has(name));
  if (param === undefined) return;
  const message = `'${param}' must not be in the query: API keys belong in the header, as 'Authorization: Bearer KEY'. If this was a key it may be in logs now, so rotate it.`;
  throw new ApiError('unknown_parameter', message, { param });
}
