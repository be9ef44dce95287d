// The closed list of error codes, the error that handlers throw, and the envelope that callers get.
import { z } from '@hono/zod-openapi';

interface ErrorRule {
  readonly status: 400 | 401 | 403 | 404 | 405 | 408 | 409 | 413 | 415 | 429 | 500 | 502 | 503 | 504;
  readonly type: string;
  /** Goes out as `x-should-retry`: OpenAI's SDKs obey it before they look at the status. */
  readonly retry: boolean;
  /** One sentence for the error page and the specification. */
  readonly meaning: string;
}

const invalid = (status: ErrorRule['status'], meaning: string): ErrorRule => ({
  status,
  type: 'invalid_request_error',
  retry: false,
  meaning,
});
const missing = (meaning: string): ErrorRule => ({
  status: 404,
  type: 'not_found_error',
  retry: false,
  meaning,
});
const forbidden = (meaning: string): ErrorRule => ({
  status: 403,
  type: 'permission_error',
  retry: false,
  meaning,
});
const server = (status: 500 | 502 | 504, retry: boolean, meaning: string): ErrorRule => ({
  status,
  type: 'server_error',
  retry,
  meaning,
});
const unavailable = (meaning: string): ErrorRule => ({
  status: 503,
  type: 'service_unavailable_error',
  retry: true,
  meaning,
});

/** Code → status, type and retry advice. The same list as test/contract/errors.json, which a test checks. */
export const ERRORS = {
  invalid_json: invalid(400, 'The body is missing, is not UTF-8 or is not JSON.'),
  missing_required_parameter: invalid(400, 'A required parameter is missing.'),
  invalid_type: invalid(400, 'A parameter has the wrong JSON type.'),
  invalid_value: invalid(400, 'A parameter has the right type but a value that is not allowed.'),
  unknown_parameter: invalid(
    400,
    'The body or the query has a parameter that this operation does not know, or the query has an API key in it, which belongs in a header.',
  ),
  unsupported_parameter: invalid(
    400,
    'OpenAI knows this parameter, but it is not supported here and would change the answer.',
  ),
  unsupported_value: invalid(
    400,
    'The parameter is supported, but not with this value, which would change the answer.',
  ),
  context_length_exceeded: invalid(400, "The prompt is longer than the model's context."),
  invalid_api_key: {
    status: 401,
    type: 'authentication_error',
    retry: false,
    meaning: 'The API key is missing, unknown, expired or disabled.',
  },
  insufficient_scope: forbidden('The API key is valid but lacks the scope that the message names.'),
  permission_denied: forbidden(
    'The API key has the scope but may not do this, for example grant a scope that it lacks; the message says what.',
  ),
  model_not_allowed: forbidden('The API key may not use this model; the message names the parameter.'),
  ip_address_not_allowed: forbidden(
    'The API key may not be used from the address that the request came from.',
  ),
  model_not_found: missing('There is no model of this name; GET /v1/models lists them.'),
  not_found: missing('There is no such object in the project of this API key.'),
  unknown_url: missing('There is no such path in this API.'),
  method_not_allowed: invalid(405, 'The path exists but not with this method; see `Allow`.'),
  idempotency_key_conflict: {
    status: 409,
    type: 'conflict_error',
    retry: false,
    meaning: 'The idempotency key was used for another path or body within the last 24 hours.',
  },
  idempotency_request_in_progress: {
    status: 409,
    type: 'conflict_error',
    retry: true,
    meaning: 'The first request with this idempotency key is still running; retry after `Retry-After`.',
  },
  idempotency_replay_unavailable: {
    status: 409,
    type: 'conflict_error',
    retry: false,
    meaning:
      'A request with this idempotency key was answered, but the answer was not kept: the API key keeps nothing, or it was too long.',
  },
  conflict: {
    status: 409,
    type: 'conflict_error',
    retry: false,
    meaning:
      'The request would take away what it stands on, for example its own API key; the message says what.',
  },
  request_timeout: {
    ...invalid(408, 'The body did not arrive in time.'),
    retry: true,
  },
  request_too_large: invalid(413, 'The body is larger than the limit that the message names.'),
  unsupported_media_type: invalid(415, 'The body must be sent as application/json.'),
  rate_limit_exceeded: {
    status: 429,
    type: 'rate_limit_error',
    retry: true,
    meaning: 'The API key has used up its requests or tokens per minute; the message says which.',
  },
  concurrency_limit_exceeded: {
    status: 429,
    type: 'rate_limit_error',
    retry: true,
    meaning: 'As many requests of the API key are running as may run at the same time.',
  },
  key_spend_limit_exceeded: {
    status: 429,
    type: 'insufficient_quota',
    retry: false,
    meaning:
      'The request could cost more than is left of the budget of the API key. `x-should-retry` is `true` only when running requests hold what is missing.',
  },
  project_spend_limit_exceeded: {
    status: 429,
    type: 'insufficient_quota',
    retry: false,
    meaning:
      'The request could cost more than is left of the budget that all API keys of the project share. `x-should-retry` is `true` only when running requests hold what is missing.',
  },
  internal_error: server(500, true, 'Something broke on our side; quote the request id.'),
  upstream_auth_error: server(502, false, 'The edge is not allowed to call its backend.'),
  upstream_invalid_response: server(502, true, 'The backend gave an answer that is not valid.'),
  upstream_stream_interrupted: server(502, true, 'The backend stopped in the middle of a stream.'),
  server_is_overloaded: unavailable('Too many requests are waiting; retry after `Retry-After`.'),
  model_loading: unavailable('The model is still loading; retry after `Retry-After`.'),
  backend_unavailable: unavailable('The backend cannot be reached; retry after `Retry-After`.'),
  deadline_exceeded: server(504, false, 'The request did not finish before its deadline.'),
} as const satisfies Record<string, ErrorRule>;

export type ErrorCode = keyof typeof ERRORS;

/** True for the strings of the closed list. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERRORS, text);
}

/** One of several faults in a body; `param` of the error is the first one's path. */
export interface ErrorDetail {
  path: string;
  message: string;
  code: ErrorCode;
}

interface ApiErrorOptions {
  /** The parameter at fault, in OpenAI's style: `messages[0].role`. */
  param?: string | null;
  details?: ErrorDetail[];
  /** When to try again; only 429 and 503 tell it. */
  retryAfterMs?: number;
  headers?: Record<string, string>;
  cause?: unknown;
}

/** The only error whose text reaches a caller; thrown anywhere, answered by onError. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly code: ErrorCode;
  readonly options: ApiErrorOptions;

  constructor(code: ErrorCode, message: string, options: ApiErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.options = options;
  }

  get status(): ErrorRule['status'] {
    return ERRORS[this.code].status;
  }
}

/** Where an error happened, for its `request_id` and `doc_url`. */
export interface ErrorOrigin {
  requestId: string;
  /** Scheme and host that the caller used: the error page is served by the same Worker. */
  baseUrl: string;
}

/** Any thrown value as an ApiError; what we did not throw on purpose never shows its text. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError('internal_error', 'The server had an error while processing the request.', {
    cause: error,
  });
}

/** OpenAI's error envelope. */
export function errorEnvelope(error: ApiError, origin: ErrorOrigin) {
  const { details } = error.options;
  return {
    error: {
      message: error.message,
      type: ERRORS[error.code].type,
      code: error.code,
      param: error.options.param ?? null,
      request_id: origin.requestId,
      doc_url: `${origin.baseUrl}/docs/errors#${error.code}`,
      ...(details === undefined ? {} : { errors: details }),
    },
  };
}

const DEFAULT_RETRY_AFTER_MS = 2000;

/** The headers that go with an error: retry advice, and what the thrower added. */
export function errorHeaders(error: ApiError): Record<string, string> {
  const rule = ERRORS[error.code];
  const headers: Record<string, string> = {
    'x-should-retry': String(rule.retry),
    ...error.options.headers,
  };
  const defaultMs = rule.status === 503 ? DEFAULT_RETRY_AFTER_MS : undefined;
  const retryAfterMs = error.options.retryAfterMs ?? defaultMs;
  if (retryAfterMs !== undefined) {
    headers['retry-after'] = String(Math.ceil(retryAfterMs / 1000));
    headers['retry-after-ms'] = String(retryAfterMs);
  }
  return headers;
}

const codes = Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]];
const types = [...new Set(Object.values(ERRORS).map((rule) => rule.type))];

/** The envelope as a schema, for the specification and for tests. */
export const ErrorSchema = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.enum(types),
      code: z.enum(codes),
      param: z.string().nullable(),
      request_id: z.string(),
      doc_url: z.url(),
      errors: z.array(z.object({ path: z.string(), message: z.string(), code: z.enum(codes) })).optional(),
    }),
  })
  .openapi('Error', {
    example: {
      error: {
        message: "'temperature': expected number to be <=2.",
        type: 'invalid_request_error',
        code: 'invalid_value',
        param: 'temperature',
        request_id: 'req_01KAV5W1Q2M3N4P5R6S7T8V9WX',
        doc_url: 'https://attune.example/docs/errors#invalid_value',
      },
    },
  });
