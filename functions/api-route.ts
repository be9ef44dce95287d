// Declares an operation: adds what all share, so that no route can forget its key, limits or errors.
import { createRoute, type RouteConfig } from '@hono/zod-openapi';
import type { MiddlewareHandler } from 'hono';
import { DEFAULT_DEADLINE_MS, MAX_DEADLINE_MS } from './backend-call';
import type { AppEnv } from './context';
import { ERRORS, ErrorSchema, type ErrorCode } from './errors';
import { requireKey, type Access } from './middleware/auth';
import { limitBody, readJsonBody } from './middleware/body';

interface ApiRouteConfig {
  method: 'get' | 'post' | 'delete';
  path: string;
  operationId: string;
  tags: [string];
  summary: string;
  description: string;
  access: Access;
  /** Most bytes of the JSON body; there must be one exactly when the operation takes a body. */
  maxBodyBytes?: number;
  request?: RouteConfig['request'];
  responses: RouteConfig['responses'];
  /** The codes that this operation adds to those that every one can give. */
  errors?: ErrorCode[];
}

const header = (description: string, example: string) => ({
  description,
  schema: { type: 'string' as const, example },
});

/** The headers of every answer, in the specification. */
const SHARED_HEADERS = {
  'x-request-id': header('Names this request in logs and errors.', 'req_01KAV5W1Q2M3N4P5R6S7T8V9WX'),
  'openai-processing-ms': header('Milliseconds until the headers were sent.', '12'),
};

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
  const { access, maxBodyBytes, errors = [], responses, ...route } = config;
  const middleware: MiddlewareHandler<AppEnv>[] = [];
  const codes = new Set<ErrorCode>([...errors, 'internal_error']);
  if (maxBodyBytes !== undefined) {
    middleware.push(limitBody(maxBodyBytes));
    for (const code of BODY_ERRORS) codes.add(code);
  }
  if (access !== 'public') {
    middleware.push(requireKey(access));
    codes.add('invalid_api_key');
    if (access !== 'any_key') codes.add('insufficient_scope');
  }
  if (maxBodyBytes !== undefined) middleware.push(readJsonBody(maxBodyBytes));

  const declared = createRoute({
    ...(route as Omit<RouteConfig, 'responses'>),
    ...(access === 'public' ? { security: [] } : { security: [{ bearer: [] }, { apiKey: [] }] }),
    ...(access === 'public' ? {} : { 'x-attune-scope': access }),
    ...(codes.has('deadline_exceeded') ? { parameters: [DEADLINE_PARAMETER] } : {}),
    responses: { ...withHeaders(responses), ...errorResponses(codes) },
  });
  // The error answers and middleware stay out of the type: handlers throw errors, they never return them.
  return { ...declared, middleware } as unknown as Omit<R, 'access' | 'errors' | 'maxBodyBytes'>;
}

function withHeaders(responses: RouteConfig['responses']): RouteConfig['responses'] {
  return Object.fromEntries(
    Object.entries(responses).map(([status, response]) => [status, { ...response, headers: SHARED_HEADERS }]),
  ) as RouteConfig['responses'];
}

function errorResponses(codes: Set<ErrorCode>): RouteConfig['responses'] {
  const byStatus = Map.groupBy([...codes].sort(), (code) => ERRORS[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, group]) => [
      status,
      {
        description: group.map((code) => `\`${code}\`: ${ERRORS[code].meaning}`).join('\n\n'),
        headers: status === 503 ? { ...SHARED_HEADERS, ...RETRY_HEADERS } : SHARED_HEADERS,
        content: { 'application/json': { schema: ErrorSchema } },
      },
    ]),
  );
}

const RETRY_HEADERS = {
  'retry-after': header('Seconds to wait before the next try.', '2'),
  'retry-after-ms': header('The same in milliseconds.', '2000'),
};
