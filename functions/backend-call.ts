// What goes with a call to the backend, read from the request it is made for.
import type { Context } from 'hono';
import type { AppEnv } from './context';
import { ApiError } from './errors';
import type { BackendCall } from './services/backend';

export const DEFAULT_DEADLINE_MS = 600_000;
export const MAX_DEADLINE_MS = 3_600_000;

/** The caller's `x-deadline-ms`, or ten minutes. */
export function readDeadlineMs(c: Context<AppEnv>): number {
  const text = c.req.header('x-deadline-ms');
  if (text === undefined) return DEFAULT_DEADLINE_MS;
  const deadlineMs = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (deadlineMs < 1 || deadlineMs > MAX_DEADLINE_MS) {
    const message = `The header 'x-deadline-ms' must be a whole number from 1 to ${MAX_DEADLINE_MS}.`;
    throw new ApiError('invalid_value', message, { param: 'x-deadline-ms' });
  }
  return deadlineMs;
}

/** What is left of a call's deadline for a further call of the same request; never none, so that the backend says that it is over. */
export function timeLeftMs(c: Context<AppEnv>, call: BackendCall): number {
  return Math.max(1, call.deadlineMs - (Date.now() - c.get('acceptedAtMs')));
}

/** Aborted when nobody waits for the answer any more. */
export function givingUp(c: Context<AppEnv>): AbortSignal {
  return c.get('givingUp') ?? c.req.raw.signal;
}

/** `maxMs` shortens the deadline of calls that have no business taking long. */
export function backendCall(c: Context<AppEnv>, maxMs: number = MAX_DEADLINE_MS): BackendCall {
  return {
    requestId: c.get('requestId'),
    deadlineMs: Math.min(readDeadlineMs(c), maxMs),
    traceparent: c.get('traceparent'),
    signal: givingUp(c),
    shared: c.get('shared'),
  };
}
