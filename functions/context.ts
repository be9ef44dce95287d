// What travels with a request: the types of the context's variables and of the services.
import type { OpenAPIHono } from '@hono/zod-openapi';
import type { AuditLog } from './services/audit-log';
import type { Backend } from './services/backend';
import type { ChatCompletionStore } from './services/chat-completions';
import type { AnswerCache, SharedCall } from './services/exit-ladder';
import type { IdempotencyStore } from './services/idempotency';
import type { ApiKey, KeyRegistry, KeyStore } from './services/keys';
import type { Exit, LedgerService, LimitState, Metering } from './services/ledger';
import type { ModelCatalog } from './services/models';
import type { ProjectRegistry } from './services/projects';
import type { RequestLog } from './services/request-log';
import type { UsageStore } from './services/usage';

/** Everything a handler may call; made once per isolate, replaced in tests by createApp's overrides. */
export interface Services {
  backend: Backend;
  keys: KeyStore;
  keyRegistry: KeyRegistry;
  projects: ProjectRegistry;
  auditLog: AuditLog;
  ledger: LedgerService;
  idempotency: IdempotencyStore;
  usage: UsageStore;
  models: ModelCatalog;
  /** Models of other servers that may keep what they are sent: not for keys that keep nothing. */
  retainingModels: ReadonlySet<string>;
  chatCompletions: ChatCompletionStore;
  requestLog: RequestLog;
  answerCache: AnswerCache;
  /** A body has this long to arrive. */
  bodyMs: number;
  /** A request with an idempotency key goes on for this long when its caller has left. */
  patienceMs: number;
  /** Time between `: keep-alive` comments in a stream. */
  keepAliveMs: number;
  /** Time of silence in a stream until an empty comment; Infinity for none. */
  probeMs: number;
}

/** Hono's type parameters for this app. */
export interface AppEnv {
  Bindings: object;
  Variables: {
    requestId: string;
    /** The caller's own name for the request; null where there is none, or none that may be repeated. */
    clientRequestId: string | null;
    /** The W3C trace context of all calls that are made for the request. */
    traceparent: string;
    acceptedAtMs: number;
    services: Services;
    /** The operation's id in the specification; undefined on paths that are none of the API's. */
    operation: string | undefined;
    /** Set by the auth middleware on every operation that is not public. */
    key: ApiKey;
    /** The parsed body, which is not validated yet; undefined where the operation takes none. */
    body: unknown;
    /** Set by the meter on every operation that is metered; the limits also when it refuses. */
    metering: Metering;
    limitState: LimitState | undefined;
    /** The rung of the exit ladder that answers, for metered operations. */
    exit: Exit;
    /** True while an answer is being made that may still come from another rung. */
    isExitOpen: boolean | undefined;
    /** How equal requests share the call to the backend; undefined where they do not. */
    shared: SharedCall | undefined;
    /** Aborted when the request is to be given up, where that is not as soon as its caller leaves. */
    givingUp: AbortSignal | undefined;
    /** Milliseconds by part of the work, for `Server-Timing`. */
    timings: Record<string, number>;
  };
}

/** The app as routes see it, when they register themselves. */
export type App = OpenAPIHono<AppEnv>;
