// Declares an operation: adds what all share, so that no route can forget its key, limits or errors.
import { createRoute, type RouteConfig } from '@hono/zod-openapi';
import type { MiddlewareHandler } from 'hono';
import {
  IDEMPOTENCY_HEADERS,
  LADDER_HEADERS,
  LIMIT_HEADERS,
  RETRY_HEADERS,
  SHARED_HEADERS,
} from './answer-headers';
import { DEFAULT_DEADLINE_MS, MAX_DEADLINE_MS } from './backend-call';
import type { AppEnv } from './context';
import { ERRORS, ErrorSchema, type ErrorCode } from './errors';
import { requireKey, type Access } from './middleware/auth';
import { limitBody, readJsonBody } from './middleware/body';
import { exitLadder, type Cacheable } from './middleware/exit-ladder';
import { idempotency } from './middleware/idempotency';
import { limitHeaders } from './middleware/limit-headers';
import { meter, type Estimate } from './middleware/meter';
import { nameOperation } from './middleware/request-log';
import { restrictions } from './middleware/restrictions';

interface ApiRouteConfig {
  method: 'get' | 'post' | 'patch' | 'delete';
  path: string;
  operationId: string;
  tags: [string];
  summary: string;
  description: string;
  access: Access;
  /** What the key's ledger reserves for a request, or that the operation is not metered at all. */
  metering: 'free' | Estimate;
  /** Of a metered operation: whether the cache may answer it. */
  cacheable?: Cacheable;
  /** Most bytes of the JSON body; there must be one exactly when the operation takes a body. */
  maxBodyBytes?: number;
  request?: RouteConfig['request'];
  responses: RouteConfig['responses'];
  /** The codes that this operation adds to those that every one can give. */
  errors?: ErrorCode[];
}

/** Goes with every operation that the cache may answer; middleware/exit-ladder.ts reads it. */
const CACHE_CONTROL_PARAMETER = {
  name: 'Cache-Control',
  in: 'header' as const,
  description:
    '`no-store`: neither look for an answer nor keep one. `no-cache`: take no kept answer. `max-age=SECONDS`: take none that is older.',
  schema: { type: 'string' as const },
  example: 'max-age=60',
};

/** The codes of every metered operation. */
const LIMIT_ERRORS: ErrorCode[] = [
  'rate_limit_exceeded',
  'concurrency_limit_exceeded',
  'key_spend_limit_exceeded',
  'project_spend_limit_exceeded',
  'model_not_allowed',
];

/** Goes with every POST; middleware/idempotency.ts reads it. */
const IDEMPOTENCY_PARAMETER = {
  name: 'Idempotency-Key',
  in: 'header' as const,
  description:
    'A new text for each request, the same for its retries: a repeat within 24 hours gets the first answer again and costs nothing.',
  schema: { type: 'string' as const, minLength: 1, maxLength: 255, pattern: '^[\\x21-\\x7e]+$' },
};

const IDEMPOTENCY_ERRORS: ErrorCode[] = [
  'invalid_value',
  'idempotency_key_conflict',
  'idempotency_request_in_progress',
  'idempotency_replay_unavailable',
  // A repeat is one of the minute's requests.
  'rate_limit_exceeded',
];

/** Goes with every operation that can miss a deadline; backend-call.ts reads it. */
const DEADLINE_PARAMETER = {
  name: 'x-deadline-ms',
  in: 'header' as const,
  description: 'Milliseconds that the answer may take; past them it ends with `deadline_exceeded`.',
  schema: { type: 'integer' as const, minimum: 1, maximum: MAX_DEADLINE_MS, default: DEFAULT_DEADLINE_MS },
};

const BODY_ERRORS: ErrorCode[] = [
  'invalid_json',
  'missing_required_parameter',
  'invalid_type',
  'invalid_value',
  'unknown_parameter',
  'unsupported_parameter',
  'unsupported_value',
  'request_timeout',
  'request_too_large',
  'unsupported_media_type',
];

/** The codes of every operation that calls the backend. */
export const BACKEND_ERRORS: ErrorCode[] = [
  'server_is_overloaded',
  'model_loading',
  'backend_unavailable',
  'upstream_auth_error',
  'upstream_invalid_response',
  'deadline_exceeded',
];

/** Like createRoute of zod-openapi, with key check, body reading, shared headers and error answers. */
export function createApiRoute<R extends ApiRouteConfig>(config: R) {
  const { access, metering, cacheable, maxBodyBytes, errors = [], responses, ...route } = config;
  const middleware: MiddlewareHandler<AppEnv>[] = [nameOperation(route.operationId)];
  const codes = new Set<ErrorCode>([...errors, 'internal_error']);
  if (access !== 'public') middleware.push(limitHeaders());
  if (maxBodyBytes !== undefined) {
    middleware.push(limitBody(maxBodyBytes));
    for (const code of BODY_ERRORS) codes.add(code);
  }
  if (access !== 'public') {
    middleware.push(requireKey(access));
    // The one for a key in the query.
    codes.add('invalid_api_key').add('ip_address_not_allowed').add('unknown_parameter');
    if (access !== 'any_key') codes.add('insufficient_scope');
  }
  const isMetered = metering !== 'free';
  if (isMetered) for (const code of LIMIT_ERRORS) codes.add(code);
  if (maxBodyBytes !== undefined) middleware.push(readJsonBody(maxBodyBytes));
  if (isMetered) middleware.push(restrictions());
  const isRepeatable = route.method === 'post' && access !== 'public';
  if (isRepeatable) {
    middleware.push(idempotency());
    for (const code of IDEMPOTENCY_ERRORS) codes.add(code);
  }
  if (isMetered) middleware.push(meter(route.operationId, metering));
  if (cacheable !== undefined) middleware.push(exitLadder(cacheable));

  const hasDeadline = codes.has('deadline_exceeded');
  // A deadline that cannot be read is refused, also where nothing else of a request can be wrong.
  if (hasDeadline) codes.add('invalid_value');

  const parameters = [
    ...(isRepeatable ? [IDEMPOTENCY_PARAMETER] : []),
    ...(cacheable === undefined ? [] : [CACHE_CONTROL_PARAMETER]),
    ...(hasDeadline ? [DEADLINE_PARAMETER] : []),
  ];
  const headers = access === 'public' ? SHARED_HEADERS : { ...SHARED_HEADERS, ...LIMIT_HEADERS };
  const declared = createRoute({
    ...(route as Omit<RouteConfig, 'responses'>),
    ...(access === 'public' ? { security: [] } : { security: [{ bearer: [] }, { apiKey: [] }] }),
    ...(access === 'public' ? {} : { 'x-attune-scope': access }),
    ...(parameters.length === 0 ? {} : { parameters }),
    responses: {
      ...withHeaders(responses, {
        ...headers,
        ...(isRepeatable ? IDEMPOTENCY_HEADERS : {}),
        ...(cacheable === undefined ? {} : LADDER_HEADERS),
      }),
      ...errorResponses(codes, headers),
    },
  });
  // The error answers and middleware stay out of the type: handlers throw errors, they never return them.
  return { ...declared, middleware } as unknown as Omit<R, Own>;
}

/** What is ours in a configuration, not createRoute's. */
type Own = 'access' | 'metering' | 'cacheable' | 'errors' | 'maxBodyBytes';

function withHeaders(
  responses: RouteConfig['responses'],
  headers: typeof SHARED_HEADERS,
): RouteConfig['responses'] {
  return Object.fromEntries(
    Object.entries(responses).map(([status, response]) => [status, { ...response, headers }]),
  ) as RouteConfig['responses'];
}

function errorResponses(codes: Set<ErrorCode>, headers: typeof SHARED_HEADERS): RouteConfig['responses'] {
  const byStatus = Map.groupBy([...codes].sort(), (code) => ERRORS[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, group]) => [
      status,
      {
        description: group.map((code) => `\`${code}\`: ${ERRORS[code].meaning}`).join('\n\n'),
        headers: [409, 429, 503].includes(status) ? { ...headers, ...RETRY_HEADERS } : headers,
        content: { 'application/json': { schema: ErrorSchema } },
      },
    ]),
  );
}
