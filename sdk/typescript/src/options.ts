// What a client and a single call can be given, checked before the first request.
import { AttuneError } from './errors';

export interface CallOptions {
  /** Ends the call, also a stream that is being read; the call throws the signal's reason. */
  signal?: AbortSignal;
  /** The most that a call may take, retries and waits included: until the answer is read, or until a stream begins. */
  timeoutMs?: number;
  /** The most that a stream may be silent; keep-alive comments count as life. */
  idleTimeoutMs?: number;
  /** Tries after the first one; 0 for none. */
  maxRetries?: number;
}

export interface ClientOptions extends Omit<CallOptions, 'signal'> {
  /** From the variable ATTUNE_API_KEY where it is not given and there is a `process`. */
  apiKey?: string;
  /** Where the API is, without `/v1`; from ATTUNE_BASE_URL like the key. */
  baseUrl?: string;
  /** In place of the global one. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

export type Settings = Required<Omit<CallOptions, 'signal'>> & Required<ClientOptions>;

/** Longer timers fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export function readSettings(options: ClientOptions): Settings {
  const limits = readLimits(options, { timeoutMs: 600_000, idleTimeoutMs: 60_000, maxRetries: 2 });
  return {
    ...limits,
    apiKey: readApiKey(options.apiKey ?? readVariable('ATTUNE_API_KEY')),
    baseUrl: readBaseUrl(options.baseUrl ?? readVariable('ATTUNE_BASE_URL')),
    // Called without `this`, which browsers insist on.
    fetch: options.fetch ?? ((url, init) => fetch(url, init)),
  };
}

type Limits = Required<Omit<CallOptions, 'signal'>>;

/** The limits of one call: its own where it has some, else the client's. */
export function readLimits(options: CallOptions, defaults: Limits): Limits {
  return {
    timeoutMs: readWhole('timeoutMs', options.timeoutMs ?? defaults.timeoutMs, 1, MAX_TIMER_MS),
    idleTimeoutMs: readWhole(
      'idleTimeoutMs',
      options.idleTimeoutMs ?? defaults.idleTimeoutMs,
      1,
      MAX_TIMER_MS,
    ),
    maxRetries: readWhole('maxRetries', options.maxRetries ?? defaults.maxRetries, 0, 100),
  };
}

function readWhole(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new AttuneError(`${name} must be a whole number from ${least} to ${most}.`);
}

/** What a header cannot carry is refused here: fetch would quote it in its complaint. */
function readApiKey(key: string | undefined): string {
  if (key === undefined || key === '')
    throw new AttuneError('An API key is missing: give apiKey, or set ATTUNE_API_KEY.');
  if (!/^[\x21-\x7e]+$/.test(key))
    throw new AttuneError('The API key has a character that no key has, such as a space or a line end.');
  return key;
}

function readBaseUrl(text: string | undefined): string {
  if (text === undefined || text === '')
    throw new AttuneError('An address is missing: give baseUrl, or set ATTUNE_BASE_URL.');
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isUsable =
    url !== undefined && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '';
  if (!isUsable || url.search !== '' || url.hash !== '')
    throw new AttuneError('baseUrl must be an http or https address without user, query and fragment.');
  return text.replace(/\/+$/, '');
}

/** An environment variable where there is a `process`, as in Node; undefined in browsers and Workers. */
function readVariable(name: string): string | undefined {
  const host = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return host.process?.env?.[name];
}
