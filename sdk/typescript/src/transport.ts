// One call from its request to its answer: key, idempotency key, retries, time limits, typed errors.
import { type Answer, type Call, asCall } from './call';
import { AttuneError, ConnectionError, ServerError, StreamError, errorOfResponse, parseJson } from './errors';
import { type Client, createClient } from './generated/client';
import { CallLimits } from './limits';
import { type CallOptions, type Settings, readLimits } from './options';
import { MAX_WAIT_MS, backoffMs, isRetryable, retryAfterMs } from './retry';
import { Stream } from './stream';

/** What each generated operation is given: it builds the request, and everything after that is done here. */
export interface Wire {
  client: Client;
  fetch: typeof fetch;
  throwOnError: true;
  parseAs: 'stream';
}

type Operation = (wire: Wire) => Promise<unknown>;
type Limits = ReturnType<typeof readLimits>;
/** What reads an answer whose status is good. */
type Reader<T> = (response: Response, limits: CallLimits) => Promise<T>;
type Attempt<T> = { answer: Answer<T> } | { error: AttuneError; isRetryable: boolean };

export class Transport {
  readonly #settings: Settings;
  readonly #client: Client;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#client = createClient({ baseUrl: settings.baseUrl });
  }

  /** A call whose answer is one JSON object. Under an idempotency key the server goes on when a try is given up, and a later one finds the answer. */
  json<T>(operation: Operation, options: CallOptions = {}): Call<T> {
    return asCall(this.#call<T>(operation, options, readJson, newIdempotencyKey()));
  }

  /** A call whose answer is a stream of JSON objects; resolves when the stream has begun. It has no such key, so that it ends when its reader leaves. */
  stream<T>(operation: Operation, options: CallOptions = {}): Call<Stream<T>> {
    const read: Reader<Stream<T>> = async (response, limits) => {
      const body = readStreamBody(response);
      limits.stopTimer();
      return new Stream<T>(body, limits, {
        idleTimeoutMs: readLimits(options, this.#settings).idleTimeoutMs,
        requestId: requestIdOf(response),
        redact: (text) => this.#redact(text),
      });
    };
    return asCall(this.#call(operation, options, read));
  }

  async #call<T>(
    operation: Operation,
    options: CallOptions,
    read: Reader<T>,
    idempotencyKey?: string,
  ): Promise<Answer<T>> {
    const limits = readLimits(options, this.#settings);
    let answer: Answer<T> | undefined;
    await operation({
      client: this.#client,
      throwOnError: true,
      parseAs: 'stream',
      fetch: async (given) => {
        const request = given as Request;
        if (idempotencyKey !== undefined && request.method === 'POST') {
          request.headers.set('idempotency-key', idempotencyKey);
        }
        answer = await this.#send(request, options.signal, limits, read);
        return answer.response;
      },
    });
    return answer as Answer<T>;
  }

  async #send<T>(
    request: Request,
    signal: AbortSignal | undefined,
    limits: Limits,
    read: Reader<T>,
  ): Promise<Answer<T>> {
    const callLimits = new CallLimits(signal);
    callLimits.startTimer(limits.timeoutMs, `The call took longer than ${limits.timeoutMs} ms.`);
    const began = performance.now();
    try {
      const init = await this.#init(request, callLimits.signal);
      for (let retry = 0; ; retry++) {
        const attempt = await this.#attempt(request.url, init, callLimits, read);
        if ('answer' in attempt) return attempt.answer;
        const { error } = attempt;
        const waitMs = error.retryAfterMs ?? backoffMs(retry, Math.random());
        // A wait that the call has no time for would only hide what went wrong.
        const isTooLong = waitMs > MAX_WAIT_MS || performance.now() - began + waitMs >= limits.timeoutMs;
        if (!attempt.isRetryable || retry >= limits.maxRetries || isTooLong) throw error;
        await callLimits.sleep(waitMs);
      }
    } catch (error) {
      callLimits.end();
      throw error;
    }
  }

  /** The same for every try. */
  async #init(request: Request, signal: AbortSignal): Promise<RequestInit> {
    const headers = new Headers(request.headers);
    headers.set('authorization', `Bearer ${this.#settings.apiKey}`);
    if (request.method !== 'POST') return { method: request.method, headers, signal };
    return { method: request.method, headers, signal, body: await request.text() };
  }

  async #attempt<T>(
    url: string,
    init: RequestInit,
    callLimits: CallLimits,
    read: Reader<T>,
  ): Promise<Attempt<T>> {
    try {
      callLimits.signal.throwIfAborted();
      const response = await callLimits.guard(this.#settings.fetch(url, init));
      if (response.ok) {
        const data = await read(response, callLimits);
        return { answer: { data, response, requestId: requestIdOf(response) } };
      }
      const body = await callLimits.guard(response.text());
      const error = errorOfResponse(response, this.#redact(body), retryAfterMs(response.headers, Date.now()));
      return { error, isRetryable: isRetryable(response.status, response.headers) };
    } catch (error) {
      if (callLimits.signal.aborted) throw callLimits.signal.reason;
      if (error instanceof AttuneError) throw error;
      return {
        error: new ConnectionError('The connection failed or broke before the answer was complete.', {
          cause: error,
        }),
        isRetryable: true,
      };
    }
  }

  /** A server or proxy that echoes what it was sent must not put the key into an error, and from there into a log. */
  #redact(text: string): string {
    return text.replaceAll(this.#settings.apiKey, '[API key]');
  }
}

async function readJson<T>(response: Response, limits: CallLimits): Promise<T> {
  const value = parseJson(await limits.guard(response.text()));
  if (typeof value === 'object' && value !== null) {
    limits.end();
    return value as T;
  }
  throw new ServerError('The answer is not JSON.', {
    status: response.status,
    code: 'invalid_response',
    requestId: requestIdOf(response),
  });
}

function readStreamBody(response: Response): ReadableStream<Uint8Array> {
  const isStream = /^text\/event-stream\b/i.test(response.headers.get('content-type') ?? '');
  if (isStream && response.body !== null) return response.body;
  throw new StreamError('The answer is not an event stream.', {
    status: response.status,
    code: 'invalid_response',
    requestId: requestIdOf(response),
  });
}

function requestIdOf(response: Response): string | undefined {
  return response.headers.get('x-request-id') ?? undefined;
}

/** 128 random bits; `crypto.randomUUID` is missing on pages without TLS. */
function newIdempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
