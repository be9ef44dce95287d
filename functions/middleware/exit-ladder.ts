// The exit ladder's cheap rungs: gives the answer of an equal earlier request, or lets equal requests share one run, and keeps its answer.
import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import { backendCall, readDeadlineMs } from '../backend-call';
import type { AppEnv } from '../context';
import { isDeeperThan } from '../lib/canonical-json';
import { readCacheControl, type CacheDirectives } from '../lib/cache-control';
import { DONE, EventSplitter } from '../lib/sse';
import { TIMED_OUT, within } from '../lib/time';
import { UPSTREAM_REVISION } from '../services/backend';
import type { Answer, CacheKey, KeptAnswer, RequestIdentity, SharedCall } from '../services/exit-ladder';
import type { ModelInfo } from '../services/models';
import { logFault } from './log-fault';
import { isEventStream, recordAnswer } from './recording';
import { namedModels } from './restrictions';
import { timed } from './timing';

/** Whether an equal request may get the same answer; it reads a body that is not validated yet. */
export type Cacheable = (body: Readonly<Record<string, unknown>>) => boolean;

/** For operations in which nothing is left to chance. */
export const always: Cacheable = () => true;

/** What `x-data-retention` says of an answer that is kept for equal requests. */
export const CACHED_SPAN = '1h';
/** Longer answers are not kept: they would fill the memory of the Worker while they pass. */
const MAX_KEPT_BYTES = 1024 * 1024;
/** A cache that takes longer is slower than it is worth. */
const MAX_LOOKUP_MS = 500;
/** No valid body comes near it, and those that are not valid shall cost little. */
const MAX_DEPTH = 128;
const CATALOG_TIMEOUT_MS = 5_000;

export const exitLadder = (isCacheable: Cacheable) =>
  createMiddleware<AppEnv>(async function exitLadder(c, next) {
    const directives = readCacheControl(c.req.header('cache-control'));
    const identity = directives.noStore ? undefined : await identify(c, isCacheable);
    if (identity === undefined) {
      await next();
      if (c.error === undefined) say(c, 'bypass');
      return undefined;
    }
    const key = await c.get('services').answerCache.keyOf(identity);
    const kept = await timed(c, 'cache', find(c, key, directives));
    if (kept !== undefined) return replay(c, kept);

    // Who wants no kept answer wants a run of their own.
    if (!directives.noCache) c.set('shared', share(c, key));
    const ended = Promise.withResolvers<Answer | null>();
    // Handed over at once: the runtime may stop everything else when the caller leaves.
    c.executionCtx.waitUntil(keep(c, key, identity, ended.promise));
    await next();
    if (c.error !== undefined) {
      ended.resolve(null);
      return undefined;
    }
    // Without what is added on the way out: an equal request gets its own request id and limits.
    const headers = Object.fromEntries(c.res.headers);
    const isStream = isEventStream(c.res);
    say(c, 'miss');
    c.res.headers.set('x-data-retention', CACHED_SPAN);
    c.res = await recordAnswer(c.res, {
      maxBytes: MAX_KEPT_BYTES,
      // A stream fails after its headers by an event, which sets the error of the context.
      hasFailed: () => c.error !== undefined,
      onEnd: ({ isComplete, body }) => {
        const whole = isComplete && body !== null && isStream ? eventsOf(body) : body;
        // Whoever began the run keeps its answer for all.
        const isKept = isComplete && whole !== null && ['full', 'shallow'].includes(c.get('exit'));
        ended.resolve(isKept ? { headers, body: whole } : null);
      },
    });
    return undefined;
  });

/** Undefined for a request whose answer is neither looked for nor kept. */
async function identify(c: Context<AppEnv>, isCacheable: Cacheable): Promise<RequestIdentity | undefined> {
  const key = c.get('key');
  if (key.zeroDataRetention) return undefined;
  const body: unknown = c.get('body');
  if (typeof body !== 'object' || body === null || !isCacheable(body as Record<string, unknown>)) {
    return undefined;
  }
  const request = body as Record<string, unknown>;
  // A catalog that cannot be read is the handler's to report.
  const catalog = await c
    .get('services')
    .models.list(backendCall(c, CATALOG_TIMEOUT_MS))
    .catch(() => []);
  const models = revisionsOf(catalog, request);
  if (models === undefined || isDeeperThan(request, MAX_DEPTH)) return undefined;
  const user = request['user'];
  return {
    projectId: key.projectId,
    cacheGeneration: key.cacheGeneration,
    endUser: typeof user === 'string' ? user : '',
    // No operation steers for end users yet.
    adapter: '',
    route: `${c.req.method} ${c.req.path}`,
    models,
    body: request,
  };
}

/** Undefined when the request names no model, one that the backend does not list, or one whose changes nobody would see. */
function revisionsOf(
  catalog: readonly ModelInfo[],
  request: Record<string, unknown>,
): RequestIdentity['models'] | undefined {
  const names = namedModels(request)
    .map(([, id]) => id)
    .filter((id) => id !== undefined && id !== null);
  const models = names.map((name) => catalog.find(({ id }) => id === name));
  if (names.length === 0 || models.includes(undefined)) return undefined;
  if (models.some((model) => model?.revision === UPSTREAM_REVISION)) return undefined;
  return models.flatMap((model) => (model === undefined ? [] : [[model.id, model.revision] as const]));
}

async function find(
  c: Context<AppEnv>,
  key: CacheKey,
  { noCache, maxAgeSeconds }: CacheDirectives,
): Promise<KeptAnswer | undefined> {
  if (noCache) return undefined;
  try {
    const found = await within(c.get('services').answerCache.find(key), MAX_LOOKUP_MS);
    return found === TIMED_OUT || found === undefined || ageOf(found) > maxAgeSeconds ? undefined : found;
  } catch (error) {
    // Without its cache the edge is slower, not broken.
    logFault(c, 'warn', 'cache_failed', error);
    return undefined;
  }
}

function replay(c: Context<AppEnv>, kept: KeptAnswer): Response {
  c.set('exit', 'cache');
  c.get('metering').settle({ promptTokens: 0, completionTokens: 0 });
  const headers = {
    ...kept.headers,
    age: String(ageOf(kept)),
    'x-attune-exit': 'cache',
    'x-cache': 'hit',
    'x-data-retention': CACHED_SPAN,
  };
  return new Response(kept.body, { headers });
}

/** Those with another deadline would hear too early, or too late, that it has passed. */
function share(c: Context<AppEnv>, { hash }: CacheKey): SharedCall {
  return {
    name: `${hash}:${readDeadlineMs(c)}`,
    onShared: (isJoined, report) => {
      c.get('metering').share(report);
      if (isJoined) c.set('exit', 'coalesced');
    },
  };
}

async function keep(
  c: Context<AppEnv>,
  key: CacheKey,
  identity: RequestIdentity,
  ending: Promise<Answer | null>,
): Promise<void> {
  const answer = await ending;
  if (answer === null) return;
  const { models, answerCache } = c.get('services');
  try {
    // The catalog at hand may be older than a change of the model that has just answered.
    const call = { ...backendCall(c, CATALOG_TIMEOUT_MS), signal: new AbortController().signal };
    const now = revisionsOf(await models.reload(call), identity.body);
    if (JSON.stringify(now) !== JSON.stringify(identity.models)) return;
    await answerCache.keep(key, answer);
    await forgetWithProject(c, key);
  } catch (error) {
    logFault(c, 'warn', 'cache_failed', error);
  }
}

/** The project may have been deleted meanwhile, and nobody would erase the answer; where that cannot be seen it goes, too. */
async function forgetWithProject(c: Context<AppEnv>, key: CacheKey): Promise<void> {
  const { projects, answerCache } = c.get('services');
  let isThere = false;
  try {
    isThere = (await projects.read(key.projectId, key.projectId)) !== undefined;
  } finally {
    if (!isThere) await answerCache.forget(key);
  }
}

/** The events of a stream that came to its end, without the comments that filled its silence. */
function eventsOf(stream: Uint8Array): Uint8Array | null {
  const events = new EventSplitter().push(stream).filter(({ data }) => data !== undefined);
  if (events.at(-1)?.data !== DONE) return null;
  const bytes = new Uint8Array(events.reduce((sum, event) => sum + event.bytes.length, 0));
  let offset = 0;
  for (const event of events) {
    bytes.set(event.bytes, offset);
    offset += event.bytes.length;
  }
  return bytes;
}

function say(c: Context<AppEnv>, cache: 'bypass' | 'miss'): void {
  if (!c.get('isExitOpen')) c.res.headers.set('x-attune-exit', c.get('exit'));
  c.res.headers.set('x-cache', cache);
}

function ageOf({ keptAtMs }: KeptAnswer): number {
  return Math.max(0, Math.floor((Date.now() - keptAtMs) / 1000));
}
