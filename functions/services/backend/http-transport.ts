// Sends a call to one of a backend's addresses; where that address did nothing, once more to another one.
import { ApiError } from '../../errors';
import type { SharedRuns } from '../exit-ladder';
import { type Clock, SYSTEM_CLOCK } from './clock';
import type { BackendCall } from './interface';
import { readErrorText } from './read-body';
import { backendUnavailable, deadlinePassed, isTimeout, readErrorResponse } from './upstream-error';
import { type Place, UrlPool } from './url-pool';

/** The backend ends a request at its deadline by itself; past this it is taken for dead. */
const GRACE_MS = 5_000;

/** Callers whose address went away together do not all arrive at the next one in the same moment. */
const MAX_JITTER_MS = 50;

export interface HttpRequest {
  method: 'GET' | 'POST';
  path: string;
  body?: unknown;
}

export interface HttpTransportOptions {
  /** One or several addresses of backends that serve the same models. */
  urls: readonly string[];
  /** Where equal requests meet; without it each runs for itself. */
  runs?: SharedRuns;
  /** The headers that prove who calls. */
  credentials: Readonly<Record<string, string>>;
  /** Headers that differ from call to call. */
  headersOf?: (call: BackendCall) => Readonly<Record<string, string>>;
  /** The error behind an answer with another status than 200. */
  readError?: ReadError;
  graceMs?: number;
  fetch?: typeof fetch;
  clock?: Clock;
}

type ReadError = (status: number, text: string, retryAfter: string | null) => ApiError;

/** Makes of an answer with status 200 what the caller wants, or rejects. */
type Reader<T> = (response: Response) => Promise<T>;

export class HttpTransport {
  readonly urls: readonly string[];
  readonly #pool: UrlPool;
  readonly #credentials: Readonly<Record<string, string>>;
  readonly #headersOf: (call: BackendCall) => Readonly<Record<string, string>>;
  readonly #readError: ReadError;
  readonly #graceMs: number;
  readonly #fetch: typeof fetch;
  readonly #runs: SharedRuns | undefined;
  readonly #clock: Clock;

  constructor(options: HttpTransportOptions) {
    this.urls = options.urls.map((url) => url.replace(/\/+$/, ''));
    this.#pool = new UrlPool(this.urls);
    this.#credentials = options.credentials;
    this.#headersOf = options.headersOf ?? (() => ({}));
    this.#readError = options.readError ?? readErrorResponse;
    this.#graceMs = options.graceMs ?? GRACE_MS;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#runs = options.runs;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
  }

  /** What `read` makes of the answer; every other status and every fault becomes an ApiError. */
  exchange<T>(request: HttpRequest, call: BackendCall, read: Reader<T>): Promise<T> {
    return this.#exchange(request, call, async (response, place) => {
      const answer = await read(response);
      place.leave();
      return answer;
    });
  }

  /** The same for an answer that goes on after `read`: it is running until `call.signal` is aborted. */
  open<T>(request: HttpRequest, call: BackendCall, read: Reader<T>): Promise<T> {
    return this.#exchange(request, call, async (response, place) => {
      const answer = await read(response);
      if (call.signal.aborted) place.leave();
      else call.signal.addEventListener('abort', () => place.leave(), { once: true });
      return answer;
    });
  }

  /** One address, whatever is known of it, and its answer, whatever its status. */
  async send(url: string, request: HttpRequest, call: BackendCall): Promise<Response> {
    const headers = new Headers({
      'x-request-id': call.requestId,
      'x-deadline-ms': String(call.deadlineMs),
      traceparent: call.traceparent,
      ...this.#headersOf(call),
      ...this.#credentials,
    });
    if (request.body !== undefined) headers.set('content-type', 'application/json');
    const late = AbortSignal.timeout(call.deadlineMs + this.#graceMs);
    try {
      const init = {
        method: request.method,
        headers,
        body: request.body === undefined ? null : JSON.stringify(request.body),
        // A redirect is an invalid answer: the credentials go nowhere but where they belong.
        redirect: 'manual' as const,
        signal: AbortSignal.any([call.signal, late]),
      };
      const address = url + request.path;
      if (this.#runs === undefined || call.shared === undefined || request.method !== 'POST')
        return await this.#fetch(address, init);
      return await this.#runs.fetch(call.shared, address, init);
    } catch (error) {
      throw isTimeout(error) ? deadlinePassed(error) : backendUnavailable(error);
    }
  }

  async #exchange<T>(
    request: HttpRequest,
    call: BackendCall,
    read: (response: Response, place: Place) => Promise<T>,
  ): Promise<T> {
    const startedAtMs = this.#clock.nowMs();
    const first = this.#take(call.deadlineMs);
    if (first === undefined) throw this.#pool.whyNone(startedAtMs);
    const outcome = await this.#attempt(first, request, call, read);
    if ('answer' in outcome) return outcome.answer;
    if (!outcome.isRepeatable) throw outcome.error;

    await this.#clock.sleep(this.#clock.random() * MAX_JITTER_MS);
    const deadlineMs = call.deadlineMs - (this.#clock.nowMs() - startedAtMs);
    if (deadlineMs < 1 || call.signal.aborted) throw outcome.error;
    const second = this.#take(deadlineMs, first.url);
    if (second === undefined) throw outcome.error;
    const again = await this.#attempt(second, request, { ...call, deadlineMs }, read);
    if ('answer' in again) return again.answer;
    throw again.error;
  }

  #take(deadlineMs: number, except?: string): Place | undefined {
    return this.#pool.take(this.#clock.nowMs(), deadlineMs + this.#graceMs, except);
  }

  async #attempt<T>(
    place: Place,
    request: HttpRequest,
    call: BackendCall,
    read: (response: Response, place: Place) => Promise<T>,
  ): Promise<{ answer: T } | { error: unknown; isRepeatable: boolean }> {
    let isAccepted = false;
    let hasJoined = false;
    const noted = noteJoining(call, () => (hasJoined = true));
    try {
      const response = await this.send(place.url, request, noted);
      if (response.status !== 200) throw await this.#toError(response);
      isAccepted = true;
      const answer = await read(response, place);
      place.succeed();
      return { answer };
    } catch (error) {
      place.leave();
      if (call.signal.aborted || !(error instanceof ApiError)) {
        place.forget();
        return { error, isRepeatable: false };
      }
      // Whoever began a shared run has said what became of it.
      if (hasJoined || error.code === 'server_is_overloaded') place.forget();
      else if (isAddressAtFault(error)) place.fail(this.#clock.nowMs(), error);
      else place.succeed();
      return { error, isRepeatable: !isAccepted && error.status === 503 };
    }
  }

  async #toError(response: Response): Promise<ApiError> {
    const text = await readErrorText(response);
    return this.#readError(response.status, text, response.headers.get('retry-after'));
  }
}

/** The same call, which also tells whether it has joined somebody else's run. */
function noteJoining(call: BackendCall, onJoined: () => void): BackendCall {
  const { shared } = call;
  if (shared === undefined) return call;
  const onShared: typeof shared.onShared = (isJoined, report) => {
    if (isJoined) onJoined();
    shared.onShared(isJoined, report);
  };
  return { ...call, shared: { ...shared, onShared } };
}

/** True for what says something about the address; all other errors are answers of a backend that is well. */
function isAddressAtFault(error: ApiError): boolean {
  if (error.code === 'deadline_exceeded') return isTimeout(error.options.cause);
  return [
    'backend_unavailable',
    'model_loading',
    'upstream_auth_error',
    'upstream_invalid_response',
  ].includes(error.code);
}
