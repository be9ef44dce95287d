// Keeps answers near and far: the Cache API of the data centre first, then KV, which all of them share.
import { openEntry, sealEntry } from './entry';
import type { Answer, AnswerCache, CacheKey, KeptAnswer, RequestIdentity } from './interface';
import { cacheKeyOf } from './key';

/** How long an answer is given again. */
export const MAX_AGE_SECONDS = 3600;
const CACHE_NAME = 'attune-answers';
/** KV lists as many names in one call, and a Worker may wait for as many deletions at once. */
const MAX_LISTED = 1000;
const MAX_DELETED_AT_ONCE = 50;

export class TieredAnswerCache implements AnswerCache {
  readonly #far: KVNamespace;
  readonly #secret: string;

  constructor(namespace: KVNamespace, secret: string) {
    this.#far = namespace;
    this.#secret = secret;
  }

  keyOf(identity: RequestIdentity): Promise<CacheKey> {
    return cacheKeyOf(this.#secret, identity);
  }

  async find(key: CacheKey): Promise<KeptAnswer | undefined> {
    const near = await (await caches.open(CACHE_NAME)).match(urlOf(key));
    const found = near && (await this.#open(key, new Uint8Array(await near.arrayBuffer())));
    if (found) return found;
    const far = await this.#far.get(nameOf(key), 'arrayBuffer');
    if (far === null) return undefined;
    const bytes = new Uint8Array(far);
    const answer = await this.#open(key, bytes);
    if (answer !== undefined) await putNear(key, bytes, answer.keptAtMs);
    return answer;
  }

  async keep(key: CacheKey, answer: Answer): Promise<void> {
    const nowMs = Date.now();
    const bytes = await sealEntry(this.#secret, key.hash, answer, nowMs);
    await Promise.all([
      putNear(key, bytes, nowMs),
      this.#far.put(nameOf(key), bytes, { expirationTtl: MAX_AGE_SECONDS }),
    ]);
  }

  async forget(key: CacheKey): Promise<void> {
    await Promise.all([
      caches.open(CACHE_NAME).then((cache) => cache.delete(urlOf(key))),
      this.#far.delete(nameOf(key)),
    ]);
  }

  /** What lies near is past its time within the hour, and nobody has a key to it when the project is gone. */
  async erase(projectId: string): Promise<void> {
    for (let cursor: string | null = null; ;) {
      const page: KVNamespaceListResult<unknown> = await this.#far.list({
        prefix: `${projectId}/`,
        limit: MAX_LISTED,
        cursor,
      });
      for (let at = 0; at < page.keys.length; at += MAX_DELETED_AT_ONCE) {
        const names = page.keys.slice(at, at + MAX_DELETED_AT_ONCE);
        await Promise.all(names.map(({ name }) => this.#far.delete(name)));
      }
      if (page.list_complete) return;
      ({ cursor } = page);
    }
  }

  async #open(key: CacheKey, bytes: Uint8Array): Promise<KeptAnswer | undefined> {
    const answer = await openEntry(this.#secret, key.hash, bytes);
    return answer !== undefined && leftSeconds(answer.keptAtMs) > 0 ? answer : undefined;
  }
}

async function putNear(key: CacheKey, bytes: Uint8Array, keptAtMs: number): Promise<void> {
  const headers = { 'cache-control': `max-age=${leftSeconds(keptAtMs)}` };
  await (await caches.open(CACHE_NAME)).put(urlOf(key), new Response(bytes, { headers }));
}

function leftSeconds(keptAtMs: number): number {
  return MAX_AGE_SECONDS - Math.floor((Date.now() - keptAtMs) / 1000);
}

/** The Cache API knows entries by URL; nobody serves this one. */
function urlOf({ hash }: CacheKey): string {
  return `https://answers.attune.example/${hash}`;
}

/** By project, so that all of one can be deleted. */
function nameOf({ projectId, hash }: CacheKey): string {
  return `${projectId}/${hash}`;
}
