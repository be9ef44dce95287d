// The last step of a request that failed: one place writes every error answer and its log line.
import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import type { AppEnv } from './context';
import { ApiError, errorEnvelope, errorHeaders, toApiError, type ErrorOrigin } from './errors';

/** Answers any thrown value with the error envelope. */
export function onError(error: unknown, c: Context<AppEnv>): Response {
  const apiError = error instanceof HTTPException ? fromHono(error) : toApiError(error);
  // Whoever looks later sees what the caller was told.
  c.error = apiError;
  logError(apiError, c);
  return c.json(errorEnvelope(apiError, errorOrigin(c)), apiError.status, errorHeaders(apiError));
}

/** The data of the event that reports an error after a stream has begun. */
export function describeStreamError(error: unknown, c: Context<AppEnv>) {
  const apiError = toApiError(error);
  // As for an error before the headers: whoever looks later sees that the request failed.
  c.error = apiError;
  logError(apiError, c);
  return errorEnvelope(apiError, errorOrigin(c));
}

function errorOrigin(c: Context<AppEnv>): ErrorOrigin {
  return { requestId: c.get('requestId'), baseUrl: new URL(c.req.url).origin };
}

// What zod-openapi throws by itself, before our own checks could.
function fromHono(error: HTTPException): ApiError {
  if (error.status === 415) return new ApiError('unsupported_media_type', 'Send application/json.');
  if (error.status === 400) return new ApiError('invalid_json', 'The body is not valid JSON.');
  return toApiError(error);
}

// Callers' mistakes are not logged; ours are, with the cause that the caller never sees.
function logError(error: ApiError, c: Context<AppEnv>): void {
  if (error.status < 500) return;
  const cause = error.options.cause;
  console.error(
    JSON.stringify({
      level: error.status === 503 || error.status === 504 ? 'warn' : 'error',
      request_id: c.get('requestId'),
      path: c.req.path,
      code: error.code,
      cause: cause instanceof Error ? `${cause.message}\n${cause.stack ?? ''}` : cause,
    }),
  );
}
