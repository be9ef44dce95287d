// Calls the app as the runtime would, with keys that are really in the database.
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test';
import { createApp } from '../../functions/app';
import type { Services } from '../../functions/context';
import { newId } from '../../functions/lib/id';
import { D1KeyStore } from '../../functions/services/keys';
import { createApiKey, seedSql } from '../../scripts/lib/dev-key.mjs';
import { bindings } from './bindings';
import { checkAnswer, declaredOperations } from './check-answer';
import type { ErrorBody } from './error-body';

export const ORIGIN = 'https://edge.test';

/** Making an app takes longer than most requests. It keeps nothing: services belong to the bindings, which are new for each call. */
const app = createApp();
const operations = declaredOperations(app);

interface KeyOptions {
  scopes?: string[];
  priority?: number;
  /** Columns of api_keys; what is absent has the default. */
  limits?: Record<string, string | number | null>;
  projectId?: string;
  expiresAtMs?: number;
  disabledAtMs?: number;
}

/** A key in the database, made by the same code that `npm start` uses. */
export async function makeKey(options: KeyOptions = {}): Promise<string> {
  const key = createApiKey({ pepper: bindings.KEY_PEPPER, id: newId('key') });
  const sql: string = seedSql({ projectId: newId('project'), ...options, key });
  for (const statement of sql.trim().split('\n')) await bindings.DB.prepare(statement).run();
  return key.key;
}

export interface CallOptions {
  method?: string;
  key?: string;
  headers?: Record<string, string>;
  /** Sent as JSON, unless it is a text or bytes. */
  body?: unknown;
  signal?: AbortSignal;
  services?: Partial<Services>;
  env?: Record<string, unknown>;
}

/** The request as a caller sends it. */
export function requestOf(
  path: string,
  { method, key, headers, body, signal }: Omit<CallOptions, 'services' | 'env'> = {},
): Request {
  const isRaw = typeof body === 'string' || body instanceof Uint8Array || body instanceof ReadableStream;
  return new Request(ORIGIN + path, {
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: isRaw ? (body as BodyInit) : JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Sends one request through the whole app, waits for what it left to `waitUntil`, and holds the answer to the specification. */
export async function call(path: string, options: CallOptions = {}): Promise<Response> {
  const { services, env } = options;
  const request = requestOf(path, options);
  const context = createExecutionContext();
  const called = services === undefined ? app : createApp(services);
  const response = await called.fetch(request, { ...bindings, ...env }, context);
  if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
    await waitOnExecutionContext(context);
  }
  await checkAnswer(operations, request.method, new URL(request.url).pathname, response);
  return response;
}

/** The error of an answer that must be one. */
export async function errorOf(response: Response): Promise<ErrorBody['error']> {
  return (await response.json<ErrorBody>()).error;
}

/** The data of every event of a stream. */
export async function eventsOf(response: Response): Promise<string[]> {
  const text = await response.text();
  return text
    .split('\n\n')
    .filter((event) => event.startsWith('data: '))
    .map((event) => event.slice(6));
}

interface SeenCall {
  headers: Record<string, string>;
  body: Record<string, unknown> | null;
  leftAtMs: number | null;
  finished: boolean;
}

/** What the fake backend saw of a request, found by its id or by its `seed`. */
export async function seenByBackend(by: string | { seed: number }): Promise<SeenCall | null> {
  const query = typeof by === 'string' ? `id=${by}` : `seed=${by.seed}`;
  return (await fetch(`${bindings.BACKEND_URL}/seen?${query}`)).json<SeenCall | null>();
}

/** How often the fake backend ran a request with this seed. */
export async function runsOf(seed: number): Promise<number> {
  return (await fetch(`${bindings.BACKEND_URL}/count?seed=${seed}`)).json<number>();
}

/** How often the fake backend's flaky address of this name was called. */
export async function triesOf(name: string): Promise<number> {
  return (await fetch(`${bindings.BACKEND_URL}/tries?name=${name}`)).json<number>();
}

/** The Durable Object of a key. */
export async function ledgerOf(secret: string) {
  const key = await new D1KeyStore(bindings.DB, bindings.KEY_PEPPER).verify(secret);
  return bindings.LEDGER.getByName(key!.id);
}

/** Asks again until `check` holds, for at most `ms`. */
export async function eventually(check: () => Promise<boolean>, ms: number): Promise<boolean> {
  const endMs = Date.now() + ms;
  for (;;) {
    if (await check()) return true;
    if (Date.now() > endMs) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A small valid chat request; the model's name tells the fake backend what to do. */
export function chatBody(changes: Record<string, unknown> = {}) {
  return { model: 'fake', messages: [{ role: 'user', content: 'Hello' }], ...changes };
}

// The fake backend counts by seed, and is one for all files.
let lastSeed = 1_000_000 + Math.floor(Math.random() * 1e9);
/** A deterministic body that the fake backend can be asked about. */
export function newBody(changes: Record<string, unknown> = {}) {
  lastSeed += 1;
  return { seed: lastSeed, body: chatBody({ seed: lastSeed, max_tokens: 2, ...changes }) };
}

/** What a key with a budget has spent and reserved. */
export async function budgetOf(key: string): Promise<{ settled_micros: number; reserved_micros: number }> {
  const limits = await call('/v1/limits', { key });
  return (await limits.json<{ budget: { settled_micros: number; reserved_micros: number } }>()).budget;
}
