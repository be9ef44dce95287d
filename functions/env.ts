// The bindings and variables of the Worker, checked once per isolate; a bad one is named in the log.
import { z } from 'zod';

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

const MAX_BACKENDS = 16;
const MAX_UPSTREAMS = 64;

/** An address and nothing more: a user and password, a query or a fragment would end up in front of a path. */
function isBaseUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) return false;
  return url.username === '' && url.password === '' && url.search === '' && url.hash === '';
}

function isLoopback(text: string): boolean {
  return LOOPBACK.has(URL.parse(text)?.hostname ?? '');
}

/** A value that has the methods of a binding; what it does is only known when it is called. */
const binding = <T>(type: string, method: string) =>
  z.custom<T>(
    (value) => typeof (value as Record<string, unknown> | null | undefined)?.[method] === 'function',
    `must be ${type} binding (wrangler.toml)`,
  );

/** A model that another server answers for. */
const UpstreamSchema = z
  .strictObject({
    /** What callers name it. */
    id: z.string().regex(/^[\w.:/-]{1,128}$/, 'must be 1 to 128 letters, digits or any of _ . : / -'),
    /** How that server is spoken to: by OpenAI's protocol, or as Hugging Face's endpoints and router have it. */
    driver: z.enum(['openai', 'hf']).default('openai'),
    /** Up to and with `/v1`; for `hf` also the bare address of an endpoint. */
    url: z
      .string()
      .transform((url) => url.replace(/\/+$/, ''))
      .refine(isBaseUrl, 'must be an http or https URL'),
    /** Empty for a server that asks for none. */
    api_key: z
      .string()
      .regex(/^[\x21-\x7e]{0,4096}$/, 'must be printable ASCII')
      .default(''),
    /** What that server calls it, where that is not `id`. */
    model: z.string().min(1).max(256).optional(),
    context_length: z.int().min(1),
    capabilities: z.array(z.enum(['chat', 'tools'])).default(['chat']),
    languages: z.array(z.string().max(64)).default([]),
    license: z.string().max(128).default('unknown'),
    owned_by: z.string().max(128).default('upstream'),
    /** True when that server keeps nothing of a request: else keys that keep nothing may not use it. */
    zero_data_retention: z.boolean().default(false),
  })
  .refine(({ api_key: key, url }) => key === '' || url.startsWith('https:') || isLoopback(url), {
    path: ['url'],
    error: 'must be https, since there is an api_key',
  });

export type Upstream = z.output<typeof UpstreamSchema>;

const UpstreamsSchema = z
  .string()
  .default('[]')
  .transform((text, context): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      context.addIssue('must be a JSON list of upstreams');
      return z.NEVER;
    }
  })
  .pipe(
    z
      .array(UpstreamSchema, 'must be a JSON list of upstreams')
      .max(MAX_UPSTREAMS, `must be at most ${MAX_UPSTREAMS} upstreams`)
      .refine((all) => new Set(all.map(({ id }) => id)).size === all.length, 'must not name an id twice'),
  );

const EnvSchema = z
  .object({
    DB: binding<D1Database>('a D1', 'prepare'),
    STORE: binding<R2Bucket>('an R2', 'put'),
    RUNS: binding<DurableObjectNamespace>('a Durable Object', 'getByName'),
    CACHE: binding<KVNamespace>('a KV', 'list'),
    LEDGER: binding<DurableObjectNamespace>('a Durable Object', 'getByName'),
    PROJECT_LEDGER: binding<DurableObjectNamespace>('a Durable Object', 'getByName'),
    /** Where requests are counted; only in production. */
    ANALYTICS: binding<AnalyticsEngineDataset>('an Analytics Engine', 'writeDataPoint').optional(),
    BACKEND_URL: z
      .string()
      .transform((text) => text.split(',').map((url) => url.trim().replace(/\/+$/, '')))
      .pipe(
        z
          .array(
            z.string().refine(isBaseUrl, 'must be an http or https URL, or several with commas between them'),
          )
          .max(MAX_BACKENDS, `must be at most ${MAX_BACKENDS} URLs`)
          .refine((urls) => new Set(urls).size === urls.length, 'must not name a URL twice'),
      ),
    BACKEND_SECRET: z.string().default(''),
    UPSTREAMS: UpstreamsSchema,
    KEY_PEPPER: z.string().min(32, 'must have at least 32 characters'),
    STREAM_PROBE_MS: z.coerce
      .number()
      .int()
      .refine((ms) => ms === 0 || ms >= 100, 'must be 0 (none) or at least 100')
      .default(0),
    CORS_ORIGINS: z
      .string()
      .default('*')
      .transform((text) => text.split(',').map((origin) => origin.trim().replace(/\/$/, '')))
      .pipe(
        z.array(
          z
            .string()
            .refine(
              (origin) => origin === '*' || /^https?:\/\/[^/]+$/.test(origin),
              'must be * or a comma-separated list of origins such as https://example.com',
            ),
        ),
      ),
  })
  .refine((env) => env.BACKEND_SECRET !== '' || env.BACKEND_URL.every(isLoopback), {
    path: ['BACKEND_SECRET'],
    error: 'must be set unless BACKEND_URL is on this machine',
  });

export type Env = z.output<typeof EnvSchema>;

const parsed = new WeakMap<object, Env>();

/**
 * The environment, validated. The runtime hands the same object to every request of an isolate, so
 * the work is done once; the error names each bad variable but never shows a value.
 */
export function parseEnv(bindings: object): Env {
  const known = parsed.get(bindings);
  if (known !== undefined) return known;
  const result = EnvSchema.safeParse(bindings);
  if (!result.success) {
    const faults = result.error.issues.map((issue) => {
      const [name = '?', index, field] = issue.path;
      const missing = issue.code === 'invalid_type' && !(name in bindings);
      const where = field === undefined ? '' : `[${String(index)}].${String(field)}`;
      return `${String(name)}${where} ${missing ? 'is missing' : issue.message}`;
    });
    throw new Error(`BAD ENVIRONMENT: ${faults.join('; ')}`);
  }
  parsed.set(bindings, result.data);
  return result.data;
}
