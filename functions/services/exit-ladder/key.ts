// The key of an answer: an HMAC over whose it is, what made it and what was asked, so that no two of them share one.
import { canonicalJson, orderedJson } from '../../lib/canonical-json';
import { hmacSha256, toHex } from '../../lib/hash';
import type { CacheKey, RequestIdentity } from './interface';

/** Goes up when answers change for the same request without a new revision of a model. */
const VERSION = 1;

/** Schemas: a model writes the fields of an object in their order, and reads tools in theirs. */
const ORDERED_PARAMETERS = ['tools', 'response_format'] as const;

/** @param secret of the deployment: nobody else can find out from a key what was asked */
export async function cacheKeyOf(secret: string, identity: RequestIdentity): Promise<CacheKey> {
  const { projectId, cacheGeneration, endUser, adapter, route, models, body } = identity;
  const ordered = ORDERED_PARAMETERS.map((name) => orderedJson(body[name] ?? null));
  const owner = [VERSION, projectId, cacheGeneration, endUser, adapter];
  // One JSON value, so that no part can run into its neighbour.
  const text = canonicalJson([...owner, route, models, ordered, body]);
  return { projectId, hash: toHex(await hmacSha256(secret, `cache key\n${text}`)) };
}
