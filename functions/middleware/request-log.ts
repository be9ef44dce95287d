// Writes down each request when it is over: one line in the log, and one data point in production.
import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';
import { toApiError } from '../errors';
import { messageOf } from '../lib/message-of';
import { traceIdOf } from '../lib/traceparent';
import { amountOf, type Metering, type TokenUse } from '../services/ledger';
import type { RequestRecord } from '../services/request-log';
import { useOf } from './meter';

/** What the name of a model looks like; anything else that stands there is somebody's text. */
const MODEL_NAME = /^[\w.:/@+-]{1,128}$/;

/** Notes which operation a request is of. */
export const nameOperation = (id: string) =>
  createMiddleware<AppEnv>(function nameOperation(c, next) {
    c.set('operation', id);
    return next();
  });

export const requestLog = () =>
  createMiddleware<AppEnv>(async function requestLog(c, next) {
    await next();
    // None when the environment is bad; that is in the log already.
    if (c.get('services') === undefined) return;
    // Absent where nothing is metered, or the request came no further than its key.
    const metering = c.get('metering') as Metering | undefined;
    const used = metering === undefined ? null : metering.known;
    if (used !== undefined) write(c, used);
    // A stream says at its end what it used, and a shared run when it is known who pays.
    else c.executionCtx.waitUntil(c.get('metering').used.then((late) => write(c, late)));
  });

/** No answer waits for anything over it, and none fails. */
function write(c: Context<AppEnv>, used: TokenUse | null): void {
  try {
    c.get('services').requestLog.write(recordOf(c, used));
  } catch (error) {
    const cause = messageOf(error);
    console.error(
      JSON.stringify({ level: 'error', request_id: c.get('requestId'), code: 'request_log_failed', cause }),
    );
  }
}

function recordOf(c: Context<AppEnv>, used: TokenUse | null): RequestRecord {
  const use = used === null ? null : useOf(c, c.get('operation') ?? '', used);
  const key = c.get('key');
  return {
    requestId: c.get('requestId'),
    clientRequestId: c.get('clientRequestId'),
    traceId: traceIdOf(c.get('traceparent')),
    operation: c.get('operation') ?? null,
    method: c.req.method,
    status: c.res.status,
    durationMs: Date.now() - c.get('acceptedAtMs'),
    projectId: key?.projectId ?? null,
    keyId: key?.id ?? null,
    model: modelOf(c.get('body')),
    exit: use?.exit ?? null,
    errorCode: c.error === undefined ? null : toApiError(c.error).code,
    inputTokens: use?.inputTokens ?? 0,
    cachedTokens: use?.cachedTokens ?? 0,
    outputTokens: use?.outputTokens ?? 0,
    costMicros: used === null ? 0 : amountOf(used).micros,
  };
}

/** Of a body that may not be valid. */
function modelOf(body: unknown): string | null {
  const model: unknown = (body as { model?: unknown } | null | undefined)?.model;
  return typeof model === 'string' && MODEL_NAME.test(model) ? model : null;
}
