// What the rest of the edge asks of the audit log: who did what to which object, and when.
import type { Page, PageQuery } from '../keyset';

export const ACTIONS = [
  'api_key.created',
  'api_key.updated',
  'api_key.rotated',
  'api_key.deleted',
  'project.created',
  'project.updated',
  'project.cache_purged',
  'project.deleted',
] as const;

export type Action = (typeof ACTIONS)[number];

/** Who does something. */
export interface Actor {
  keyId: string;
  requestId: string;
}

export interface AuditEntry {
  id: string;
  atMs: number;
  projectId: string;
  /** Null for a command on the operator's machine. */
  actorKeyId: string | null;
  action: string;
  resourceId: string;
  changedFields: string[];
  requestId: string | null;
}

export interface AuditQuery extends PageQuery {
  /** Null for all projects. */
  projectId: string | null;
  actorKeyId: string | undefined;
  action: Action | undefined;
  /** From this moment… */
  fromMs: number | undefined;
  /** …to before this one. */
  toMs: number | undefined;
}

export interface AuditLog {
  list(query: AuditQuery): Promise<Page<AuditEntry>>;
}
