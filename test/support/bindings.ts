// The Worker's bindings as tests see them.
import { env } from 'cloudflare:workers';
import type { LedgerObject } from '../../functions/services/ledger/durable-object';
import type { ProjectLedgerObject } from '../../functions/services/ledger/project-object';

export interface TestBindings extends Record<string, unknown> {
  DB: D1Database;
  STORE: R2Bucket;
  CACHE: KVNamespace;
  LEDGER: DurableObjectNamespace<LedgerObject>;
  PROJECT_LEDGER: DurableObjectNamespace<ProjectLedgerObject>;
  BACKEND_URL: string;
  KEY_PEPPER: string;
}

export const bindings = env as unknown as TestBindings;
