// The bindings and variables of the Worker, checked once per isolate; a bad one is named in the log.
import { z } from 'zod';

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);

/** A value that has the methods of a binding; what it does is only known when it is called. */
const binding = <T>(type: string, method: string) =>
  z.custom<T>(
    (value) => typeof (value as Record<string, unknown> | null | undefined)?.[method] === 'function',
    `must be ${type} binding (wrangler.toml)`,
  );

const EnvSchema = z
  .object({
    DB: binding<D1Database>('a D1', 'prepare'),
    STORE: binding<R2Bucket>('an R2', 'put'),
    RUNS: binding<DurableObjectNamespace>('a Durable Object', 'getByName'),
    CACHE: binding<KVNamespace>('a KV', 'list'),
    LEDGER: binding<DurableObjectNamespace>('a Durable Object', 'getByName'),
    BACKEND_URL: z.url({ protocol: /^https?$/, error: 'must be an http or https URL' }),
    BACKEND_SECRET: z.string().default(''),
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
  .refine((env) => env.BACKEND_SECRET !== '' || LOOPBACK.has(new URL(env.BACKEND_URL).hostname), {
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
      const [name = '?'] = issue.path;
      const missing = issue.code === 'invalid_type' && !(name in bindings);
      return `${String(name)} ${missing ? 'is missing' : issue.message}`;
    });
    throw new Error(`BAD ENVIRONMENT: ${faults.join('; ')}`);
  }
  parsed.set(bindings, result.data);
  return result.data;
}
