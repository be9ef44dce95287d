// Hands a request what it may call: database, store, ledger, backend.
import { createMiddleware } from 'hono/factory';
import type { AppEnv, Services } from '../context';
import { type Env, parseEnv, type Upstream } from '../env';
import { D1AuditLog } from '../services/audit-log';
import { HfBackend, HttpBackend, OpenAiBackend, RoutedBackend } from '../services/backend';
import { D1R2ChatCompletionStore } from '../services/chat-completions';
import { DurableObjectRuns, TieredAnswerCache } from '../services/exit-ladder';
import { LedgerIdempotencyStore } from '../services/idempotency';
import { D1KeyRegistry, D1KeyStore } from '../services/keys';
import { DurableObjectLedger } from '../services/ledger';
import { CachedModelCatalog } from '../services/models';
import { D1ProjectRegistry } from '../services/projects';
import { StructuredRequestLog } from '../services/request-log';
import { D1UsageStore } from '../services/usage';

const BODY_MS = 60_000;
/** Cloudflare ends a Worker half a minute after its caller has left. */
const PATIENCE_MS = 25_000;
const KEEP_ALIVE_MS = 15_000;

/** Makes the services from the environment; `overrides` replaces single ones in tests. */
export const services = (overrides: Partial<Services>) => {
  const made = new WeakMap<Env, Services>();
  return createMiddleware<AppEnv>(function services(c, next) {
    const env = parseEnv(c.env);
    const existing = made.get(env) ?? createServices(env, overrides);
    made.set(env, existing);
    c.set('services', existing);
    return next();
  });
};

function createServices(env: Env, overrides: Partial<Services>): Services {
  const own =
    overrides.backend ??
    new HttpBackend({
      urls: env.BACKEND_URL,
      secret: env.BACKEND_SECRET,
      runs: new DurableObjectRuns(env.RUNS),
    });
  const upstreams = new Map(env.UPSTREAMS.map((upstream) => [upstream.id, createUpstream(upstream)]));
  const models = [...upstreams.values()].map(({ model }) => model);
  const backend =
    upstreams.size === 0 ? own : new RoutedBackend(own, { get: (id) => upstreams.get(id), models });
  const ledger = overrides.ledger ?? new DurableObjectLedger(env.LEDGER, env.PROJECT_LEDGER);
  const answerCache = overrides.answerCache ?? new TieredAnswerCache(env.CACHE, env.KEY_PEPPER);
  return {
    keys: new D1KeyStore(env.DB, env.KEY_PEPPER),
    keyRegistry: new D1KeyRegistry(env.DB, env.KEY_PEPPER),
    projects: new D1ProjectRegistry(env.DB, { bucket: env.STORE, ledger, answerCache }),
    auditLog: new D1AuditLog(env.DB),
    idempotency: new LedgerIdempotencyStore(env.LEDGER, env.STORE),
    usage: new D1UsageStore(env.DB),
    models: new CachedModelCatalog(backend, models),
    retainingModels: new Set(
      env.UPSTREAMS.flatMap((upstream) => (upstream.zero_data_retention ? [] : [upstream.id])),
    ),
    chatCompletions: new D1R2ChatCompletionStore(env.DB, env.STORE),
    requestLog: new StructuredRequestLog(env.ANALYTICS),
    bodyMs: BODY_MS,
    patienceMs: PATIENCE_MS,
    keepAliveMs: KEEP_ALIVE_MS,
    probeMs: env.STREAM_PROBE_MS === 0 ? Infinity : env.STREAM_PROBE_MS,
    ...overrides,
    backend,
    ledger,
    answerCache,
  };
}

function createUpstream(upstream: Upstream): HfBackend | OpenAiBackend {
  return upstream.driver === 'hf' ? new HfBackend(upstream) : new OpenAiBackend(upstream);
}
