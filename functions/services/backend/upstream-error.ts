// Turns what a backend answers instead of a result into an error that callers may see.
import { z } from 'zod';
import { ApiError, ERRORS, isErrorCode } from '../../errors';

const EnvelopeSchema = z.object({
  error: z.object({
    message: z.string().min(1),
    code: z.string(),
    param: z.string().nullish(),
  }),
});

// These say something about the caller's request to the edge, which the backend cannot know.
const EDGE_ONLY = new Set([
  'invalid_json',
  'invalid_api_key',
  'insufficient_scope',
  'unknown_url',
  'method_not_allowed',
  'unsupported_media_type',
  'idempotency_key_conflict',
  'idempotency_request_in_progress',
  'idempotency_replay_unavailable',
  'rate_limit_exceeded',
  'concurrency_limit_exceeded',
  'key_spend_limit_exceeded',
  'project_spend_limit_exceeded',
]);

/** What a gateway answers for a backend that it cannot reach; 52x and 530 are Cloudflare's. */
const GATEWAY_STATUSES = new Set([502, 503, 521, 522, 523, 530]);

const MAX_RETRY_AFTER_SECONDS = 60;

/** The fixed error for an answer that does not follow the contract; its text is for the log only. */
export function invalidResponse(cause: unknown): ApiError {
  return new ApiError('upstream_invalid_response', 'The backend gave an invalid answer.', { cause });
}

/** The fixed error for a backend that cannot be reached. */
export function backendUnavailable(cause: unknown): ApiError {
  const message = 'The backend is unavailable right now. Please retry your request.';
  return new ApiError('backend_unavailable', message, { cause });
}

/** The error for a backend that has not answered when it should have ended the request by itself. */
export function deadlinePassed(cause: unknown): ApiError {
  return new ApiError('deadline_exceeded', 'The deadline has passed.', { cause });
}

/** The fixed error for a stream that broke off. */
export function streamInterrupted(cause: unknown): ApiError {
  const message = "The backend's stream ended before the answer was complete.";
  return new ApiError('upstream_stream_interrupted', message, { cause });
}

/** The fixed error for credentials that the other side refuses; nothing of its text is kept. */
export function authFailed(): ApiError {
  return new ApiError('upstream_auth_error', 'The edge could not authenticate to its backend.');
}

/** True for what a fetch or a read throws when the time limit of its signal is over. */
export function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError';
}

/** The error that an envelope states; undefined when it is none that the backend may state. */
export function readEnvelope(value: unknown, retryAfter: string | null = null): ApiError | undefined {
  const parsed = EnvelopeSchema.safeParse(value);
  if (!parsed.success) return undefined;
  const { code, message, param } = parsed.data.error;
  if (!isErrorCode(code) || EDGE_ONLY.has(code)) return undefined;
  return new ApiError(code, message, { param: param ?? null, ...readRetryAfter(retryAfter) });
}

/** Its `Retry-After`, if that is a number of seconds, as an option of ApiError. */
export function readRetryAfter(text: string | null): { retryAfterMs?: number } {
  const seconds = Number(text ?? NaN);
  if (!Number.isInteger(seconds) || seconds <= 0) return {};
  return { retryAfterMs: Math.min(seconds, MAX_RETRY_AFTER_SECONDS) * 1000 };
}

/** The error behind an answer with an error status. */
export function readErrorResponse(status: number, text: string, retryAfter: string | null): ApiError {
  if (status === 401) return authFailed();
  const error = readEnvelope(parseJson(text), retryAfter);
  if (error !== undefined && ERRORS[error.code].status === status) return error;
  return errorOfStatus(status, text, retryAfter);
}

/** The error behind a status whose text says nothing that a caller may see; the text is for the log. */
export function errorOfStatus(status: number, text: string, retryAfter: string | null): ApiError {
  const cause = `status ${status}: ${text.slice(0, 500)}`;
  if (!GATEWAY_STATUSES.has(status)) return invalidResponse(cause);
  const { code, message } = backendUnavailable(cause);
  return new ApiError(code, message, { cause, ...readRetryAfter(retryAfter) });
}

/** JSON or undefined: whether the value is right is for a schema to say. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
