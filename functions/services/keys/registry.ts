// What the rest of the edge asks about API keys as admins see and change them; secrets are never in it but where they are made.
import type { apiKeys } from '../../../db/schema';
import type { Actor } from '../audit-log';
import type { Page, PageQuery } from '../keyset';

type Row = typeof apiKeys.$inferSelect;

export type KeyRecord = Omit<Row, 'lookup' | 'hash' | 'previousLookup' | 'previousHash' | 'priority'>;

type Settable =
  | 'name'
  | 'scopes'
  | 'allowedModels'
  | 'ipAllowList'
  | 'isEndUserRequired'
  | 'zeroDataRetention'
  | 'requestsPerMinute'
  | 'tokensPerMinute'
  | 'concurrency'
  | 'budgetMicros'
  | 'budgetWindow'
  | 'isBudgetHard'
  | 'expiresAtMs'
  | 'disabledAtMs';

/** What an admin sets; what is undefined stays, or has its default in a new key. */
export type KeySettings = { [Name in Settable]?: Row[Name] | undefined };

/** Of a new key. */
export interface NewKey {
  projectId: string;
  environment: Row['environment'];
  settings: KeySettings & Pick<Row, 'name' | 'scopes'>;
}

/** A key and its secret, which is kept nowhere. */
export interface KeyWithSecret {
  record: KeyRecord;
  secret: string;
}

/** Which key, and whose: as it was read before. */
export type KeyIdentity = Pick<KeyRecord, 'id' | 'projectId'>;

export interface KeyRegistry {
  /** @param projectId null for the keys of all projects */
  list(projectId: string | null, query: PageQuery): Promise<Page<KeyRecord>>;
  /** Undefined for an unknown id and for one of a project that the caller cannot reach (null reaches all). */
  read(reach: string | null, id: string): Promise<KeyRecord | undefined>;
  /** Undefined when there is no such project. */
  create(actor: Actor, key: NewKey): Promise<KeyWithSecret | undefined>;
  /** @param changedFields the names that the audit log is to say */
  update(
    actor: Actor,
    key: KeyIdentity,
    settings: KeySettings,
    changedFields: readonly string[],
  ): Promise<KeyRecord | undefined>;
  /** A new secret; the one before stays good for a while, and any earlier one ends now. */
  rotate(actor: Actor, key: KeyIdentity, overlapMs: number): Promise<KeyWithSecret | undefined>;
  /** False when somebody else was faster. */
  remove(actor: Actor, key: KeyIdentity): Promise<boolean>;
}
