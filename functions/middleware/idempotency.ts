// Lets a request with an idempotency key run once: a repeat gets the first answer again, or hears why not.
import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';
import { ApiError } from '../errors';
import { delayed, onAbort } from '../lib/time';
import { fingerprintOf, type AnswerHead, type Outcome } from '../services/idempotency';
import { CACHED_SPAN } from './exit-ladder';
import { logFault } from './log-fault';
import { lifeOf, limitExceeded, spread } from './meter';
import { recordAnswer, type Recording } from './recording';
import { timed } from './timing';

/** When a running request ends is not known; a client may ask again this soon. */
const RUNNING_RETRY_MS = 1000;
/** Longer answers are not kept: they would fill the memory of the Worker while they pass. */
const MAX_KEPT_BYTES = 4 * 1024 * 1024;

/** An answer that was given whole. */
interface Ended {
  head: Omit<AnswerHead, 'objectKey'>;
  body: Uint8Array | null;
}

export const idempotency = () =>
  createMiddleware<AppEnv>(async function idempotency(c, next) {
    const idempotencyKey = readKey(c);
    if (idempotencyKey === undefined) {
      await next();
      return undefined;
    }
    const key = c.get('key');
    const requestId = c.get('requestId');
    const services = c.get('services');
    const lifeMs = lifeOf(c);
    const fingerprint = await fingerprintOf(pathOf(c), c.get('body'));
    const claim = { idempotencyKey, fingerprint, requestId, lifeMs };
    const { outcome, refusal, state } = await timed(c, 'idempotency', services.idempotency.claim(key, claim));
    c.set('limitState', state);
    if (refusal !== null) throw limitExceeded(refusal, key);
    if (outcome.kind !== 'run') return repeat(c, outcome);

    // A caller who lost patience comes back with the same key, and is to find the answer that is being made.
    const leaving = new AbortController();
    onAbort(c.req.raw.signal, () => leaving.abort());
    const givingUp = delayed(leaving.signal, services.patienceMs);
    c.set('givingUp', givingUp);
    const ended = Promise.withResolvers<Ended | null>();
    // Handed over at once: the runtime may stop everything else when the caller leaves.
    const written = write(c, ended.promise);
    c.executionCtx.waitUntil(written);
    await next();
    if (c.error !== undefined) {
      ended.resolve(null);
      // A caller who tries again at once must find the key free.
      await written;
      return undefined;
    }
    // The handler says `none` where the answer has a secret in it, and more where it stores the answer.
    const said = c.res.headers.get('x-data-retention');
    const keepsNothing = key.zeroDataRetention || said === 'none';
    const isShort = said === null || said === CACHED_SPAN;
    if (isShort && !keepsNothing) c.res.headers.set('x-data-retention', '24h');
    const maxBytes = keepsNothing ? 0 : MAX_KEPT_BYTES;
    // Without what is added on the way out: a repeat gets its own request id and limits.
    const head = { status: c.res.status, headers: Object.fromEntries(c.res.headers) };
    const onEnd = ({ isComplete, body }: Recording) => ended.resolve(isComplete ? { head, body } : null);
    // A stream fails after its headers by an event, which sets the error of the context.
    const hasFailed = () => c.error !== undefined;
    c.res = await recordAnswer(c.res, { maxBytes, hasFailed, onEnd, outlives: { leaving, givingUp } });
    return undefined;
  });

function readKey(c: Context<AppEnv>): string | undefined {
  const text = c.req.header('idempotency-key');
  if (text === undefined || /^[\x21-\x7e]{1,255}$/.test(text)) return text;
  const message = "The header 'Idempotency-Key' must have 1 to 255 visible ASCII characters and no spaces.";
  throw new ApiError('invalid_value', message, { param: 'Idempotency-Key' });
}

/** With the query, which may change what an operation does. */
function pathOf(c: Context<AppEnv>): string {
  const { pathname, search } = new URL(c.req.url);
  return pathname + search;
}

async function write(c: Context<AppEnv>, ending: Promise<Ended | null>): Promise<void> {
  const key = c.get('key');
  const requestId = c.get('requestId');
  const services = c.get('services');
  const ended = await ending;
  try {
    if (ended === null) await services.idempotency.release(key, requestId);
    else await services.idempotency.keep(key, requestId, ended.head, ended.body);
  } catch (error) {
    // The key is free again after the request's deadline.
    logFault(c, 'error', 'idempotency_failed', error);
  }
}

async function repeat(c: Context<AppEnv>, outcome: Exclude<Outcome, { kind: 'run' }>): Promise<Response> {
  if (outcome.kind === 'running') {
    const message = 'The first request with this idempotency key is still running.';
    const retryAfterMs = spread(RUNNING_RETRY_MS);
    throw new ApiError('idempotency_request_in_progress', message, { retryAfterMs });
  }
  if (outcome.kind === 'conflict') {
    const message = 'This idempotency key was used for another path or body; a new request needs a new key.';
    throw new ApiError('idempotency_key_conflict', message, { param: 'Idempotency-Key' });
  }
  const { status, headers, objectKey } = outcome.answer;
  const body = objectKey === null ? null : await c.get('services').idempotency.readBody(objectKey);
  if (body === null) {
    const message = `This request was answered with status ${status}, and the answer was not kept.`;
    throw new ApiError('idempotency_replay_unavailable', message);
  }
  return new Response(body, { status, headers: { ...headers, 'idempotent-replayed': 'true' } });
}
