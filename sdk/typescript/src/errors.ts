// What a call can throw: one class per family of statuses, and three for what has no status.

/** What the server said about a failure; every part may be missing where the words are not the server's. */
export interface ErrorDetails {
  status?: number | undefined;
  /** A string of the server's closed list, or one of this client's own for failures that it found itself. */
  code?: string | undefined;
  param?: string | null | undefined;
  /** Quote it when you ask about a failure. */
  requestId?: string | undefined;
  /** How long the server asked to wait before the next try. */
  retryAfterMs?: number | undefined;
  cause?: unknown;
}

/** Everything that this client throws, except what the caller's own abort signal gives as its reason. */
export class AttuneError extends Error {
  override readonly name: string = 'AttuneError';
  readonly status: number | undefined;
  readonly code: string | undefined;
  readonly param: string | null | undefined;
  readonly requestId: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.status = details.status;
    this.code = details.code;
    this.param = details.param;
    this.requestId = details.requestId;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** 400, and every other 4xx that has no class of its own. */
export class BadRequestError extends AttuneError {
  override readonly name = 'BadRequestError';
}
/** 401 */
export class AuthenticationError extends AttuneError {
  override readonly name = 'AuthenticationError';
}
/** 403 */
export class PermissionDeniedError extends AttuneError {
  override readonly name = 'PermissionDeniedError';
}
/** 404 */
export class NotFoundError extends AttuneError {
  override readonly name = 'NotFoundError';
}
/** 409 */
export class ConflictError extends AttuneError {
  override readonly name = 'ConflictError';
}
/** 429 */
export class RateLimitError extends AttuneError {
  override readonly name = 'RateLimitError';
}
/** 5xx, and an answer that is not what the specification says (code `invalid_response`). */
export class ServerError extends AttuneError {
  override readonly name = 'ServerError';
}
/** The server could not be reached, or the connection broke before the answer was complete. */
export class ConnectionError extends AttuneError {
  override readonly name = 'ConnectionError';
}
/** The call took longer than it may, a stream was silent for too long, or 408. */
export class TimeoutError extends AttuneError {
  override readonly name = 'TimeoutError';
}
/** A stream that had begun did not end well: an error event, a cut connection, no `[DONE]`, or garbage. */
export class StreamError extends AttuneError {
  override readonly name = 'StreamError';
}

function classOf(status: number): typeof AttuneError {
  switch (status) {
    case 401:
      return AuthenticationError;
    case 403:
      return PermissionDeniedError;
    case 404:
      return NotFoundError;
    case 408:
      return TimeoutError;
    case 409:
      return ConflictError;
    case 429:
      return RateLimitError;
    default:
      return status >= 400 && status < 500 ? BadRequestError : ServerError;
  }
}

/** The error for an answer whose status is one; bodies that are not ours, like a proxy's page, are not quoted. */
export function errorOfResponse(
  response: Response,
  body: string,
  retryAfterMs: number | undefined,
): AttuneError {
  const said = readEnvelope(parseJson(body));
  return new (classOf(response.status))(said?.message ?? `The server answered with ${response.status}.`, {
    code: said?.code,
    param: said?.param,
    status: response.status,
    requestId: response.headers.get('x-request-id') ?? said?.requestId,
    retryAfterMs,
  });
}

/** The error for an error event of a stream. */
export function errorOfEvent(value: unknown, requestId: string | undefined): StreamError {
  const said = readEnvelope(value);
  return new StreamError(said?.message ?? 'The stream ended with an error.', {
    code: said?.code,
    param: said?.param,
    requestId: requestId ?? said?.requestId,
  });
}

interface Said {
  message: string | undefined;
  code: string | undefined;
  param: string | null;
  requestId: string | undefined;
}

/** The parts of the server's envelope that have the type they should have; undefined for anything else. */
function readEnvelope(value: unknown): Said | undefined {
  if (typeof value !== 'object' || value === null || !('error' in value)) return undefined;
  const { error } = value;
  if (typeof error !== 'object' || error === null) return undefined;
  const text = (name: string) => {
    const part: unknown = Reflect.get(error, name);
    return typeof part === 'string' ? part : undefined;
  };
  return {
    message: text('message'),
    code: text('code'),
    param: text('param') ?? null,
    requestId: text('request_id'),
  };
}

/** The value, or undefined where the text is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
